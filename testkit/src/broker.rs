//! A RabbitMQ of a test's own, for what must not happen to the one that others use.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A running broker; ends a moment after it is dropped.
pub struct TestBroker {
    pub url: String,
    // Its end is what ends the broker.
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    script: Child,
}

/// Starts a broker, says where, and does what it is told, a line at a time, until there is nobody to tell it.
const SCRIPT: &str = r#"
set -euo pipefail
. scripts/lib/common.sh
. scripts/lib/install.sh
. scripts/lib/services.sh
trap stop_services EXIT
trap 'exit 143' TERM HUP INT
need_rabbitmq
services_dir
start_rabbitmq
echo "$REELMILL_TEST_AMQP_URL"
while read -r watermark; do
  (rabbitmq_environment "$SERVICES_DIR/rabbitmq"
   "$(dirname "$RABBITMQ_SERVER")/rabbitmqctl" -q -n "$RABBITMQ_NODENAME" set_vm_memory_high_watermark $watermark >&2)
  echo done
done
"#;

impl TestBroker {
    /// Starts one and waits until it is there.
    pub async fn start() -> Self {
        let mut script = Command::new("bash")
            .args(["-c", SCRIPT])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(script.stdout.take().unwrap()).lines();
        let url = answers.next_line().await.unwrap().expect("the broker did not start");
        Self { url, orders: script.stdin.take().unwrap(), answers, script }
    }

    /// Sets its memory alarm, or takes it away: while it is set the broker takes no messages from anybody.
    pub async fn alarm(&mut self, set: bool) {
        let watermark: &[u8] = if set { b"absolute 1\n" } else { b"0.6\n" };
        self.orders.write_all(watermark).await.unwrap();
        assert_eq!(self.answers.next_line().await.unwrap().as_deref(), Some("done"), "rabbitmqctl failed");
    }

    /// Ends it and waits until it has gone.
    pub async fn stop(mut self) {
        drop(self.orders);
        self.script.wait().await.unwrap();
    }
}
