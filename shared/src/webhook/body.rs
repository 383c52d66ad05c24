//! What a message says: `{type, timestamp, data}`.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

/// The type of a message that only tries whether a receiver is there. It stands in no log.
pub const TEST_EVENT: &str = "webhook.test";

/// Bytes of a body at most, as the specification advises.
const LONGEST: usize = 20_000;

/// The body of an event: the very bytes that are signed and sent. Of data that is too long only the ids are left, and a note.
pub fn body(kind: &str, timestamp: DateTime<Utc>, data: &Value) -> String {
    let timestamp = timestamp.to_rfc3339_opts(SecondsFormat::Millis, true);
    let whole = json!({ "type": kind, "timestamp": timestamp, "data": data }).to_string();
    if whole.len() <= LONGEST {
        return whole;
    }
    let mut ids: Map<String, Value> = Map::new();
    for (name, value) in data.as_object().into_iter().flatten() {
        if name.ends_with("_id") && value.as_str().is_some_and(|id| id.len() <= 64) && ids.len() < 32 {
            ids.insert(name.clone(), value.clone());
        }
    }
    ids.insert("truncated".to_owned(), Value::from(true));
    ids.insert("note".to_owned(), Value::from("the event was too long for a webhook; read it by its ids"));
    json!({ "type": kind, "timestamp": timestamp, "data": ids }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_bounded() {
        let at = "2026-11-20T10:00:00.5Z".parse().unwrap();
        let read = |data: &Value| serde_json::from_str::<Value>(&body("job.failed", at, data)).unwrap();
        let short = json!({ "job_id": "j", "error": { "message": "m" } });
        assert_eq!(
            read(&short),
            json!({ "type": "job.failed", "timestamp": "2026-11-20T10:00:00.500Z", "data": short })
        );
        let long = json!({ "job_id": "j", "recording_id": null, "error": "x".repeat(LONGEST) });
        let cut = read(&long);
        assert_eq!(cut["data"]["job_id"], "j");
        assert_eq!(cut["data"]["truncated"], true);
        assert!(cut["data"]["error"].is_null() && cut["data"]["note"].is_string());
        let hostile: Map<String, Value> =
            (0..2000).map(|n| (format!("{n}{}_id", "n".repeat(50)), json!("v".repeat(64)))).collect();
        assert!(body("job.failed", at, &Value::Object(hostile)).len() <= LONGEST);
    }
}
