//! Logs and metrics, the same in every program.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rand::RngCore;
use tracing_subscriber::EnvFilter;

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for collectors.
    Json,
    /// For people.
    Text,
}

/// Starts logging to stderr, by `RUST_LOG` (default `info`). Later calls change nothing.
pub fn init_logs(format: LogFormat) {
    let mut filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,lapin=warn,refinery_core=warn"));
    // It tells the stream key of every publisher, which is a secret, whatever the level.
    if let Ok(silence) = "rtmp_rs=off".parse() {
        filter = filter.add_directive(silence);
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        // Colours are for eyes, not for files.
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}

/// Starts the metrics recorder and gives what `/metrics` prints from.
pub fn metrics() -> &'static PrometheusHandle {
    METRICS.get_or_init(|| {
        let buckets = [
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
            1800.0,
        ];
        let builder = PrometheusBuilder::new();
        let builder = match builder.set_buckets(&buckets) {
            Ok(builder) => builder,
            Err(error) => unreachable!("a constant list that is not empty: {error}"),
        };
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Fails only where a program set its own recorder first; then that one is what it wants.
        let _ = metrics::set_global_recorder(recorder);
        metrics::gauge!("reelmill_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        handle
    })
}

/// A W3C `traceparent` (https://www.w3.org/TR/trace-context/) for a new trace.
pub fn new_traceparent() -> String {
    let mut bytes = [0; 24];
    rand::rng().fill_bytes(&mut bytes);
    let (trace, span) = bytes.split_at(16);
    format!("00-{}-{}-01", hex::encode(trace), hex::encode(span))
}

/// True for a `traceparent` of version 00 with ids that are not all zero.
pub fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let [version, trace, span, flags] = parts.as_slice() else {
        return false;
    };
    let set = |part: &str| part.bytes().any(|b| b != b'0');
    *version == "00" && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && set(trace) && set(span)
}
