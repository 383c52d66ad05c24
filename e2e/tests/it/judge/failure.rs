//! How a job must fail.

use reelmill_testkit::Client;
use serde_json::Value;

/// The job failed for one of these reasons, says so plainly, and nothing was tried twice.
pub async fn failed_for_good(client: &Client, job: &Value, reasons: &[&str]) {
    assert_eq!(job["status"], "failed", "{job}");
    let error = &job["error"];
    assert_eq!(error["retryable"], false, "{error}");
    let reason = error["reason"].as_str().unwrap();
    assert!(reasons.contains(&reason), "{error}");
    let message = error["message"].as_str().unwrap();
    println!("{message}");
    assert!(
        message.len() > 20
            && !message.contains("/tmp")
            && !message.contains("0x")
            && !message.contains(" @ "),
        "not plain: {message}"
    );
    let log = client.get(&format!("/jobs/{}/log", job["id"].as_str().unwrap())).await;
    let attempts = log["attempts"].as_array().unwrap();
    let failed: Vec<&Value> = attempts.iter().filter(|attempt| attempt["outcome"] != "succeeded").collect();
    assert_eq!(failed.len(), 1, "exactly one attempt failed: {log}");
    assert_eq!(job["attempts"], 1);
    if job["kind"] == "transcode" {
        let recording = client.get(&format!("/recordings/{}", job["recording_id"].as_str().unwrap())).await;
        assert_eq!(recording["status"], "failed");
        assert_eq!(recording["error"]["reason"], reason);
        assert!(recording["hls_url"].is_null());
    }
}
