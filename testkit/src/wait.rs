//! Waiting for a condition, never for a fixed time.

use std::time::{Duration, Instant};

/// Asks until the answer is `Some`, every 50 ms; panics with `what` after `most`.
pub async fn until<T, F, R>(what: &str, most: Duration, mut ask: F) -> T
where
    F: FnMut() -> R,
    R: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < most, "waited {most:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
