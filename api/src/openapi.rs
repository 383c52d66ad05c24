//! The API's description, generated from the handlers.

use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as OpenApiDocument, Ref, Response};
use utoipa::{Modify, OpenApi};

/// The frame the routes are filled into.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Reelmill",
        description = "A transcoding farm: video files go in, streams that play everywhere come out.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    modifiers(&Security),
    security(("bearer" = []), ("api_key" = [])),
    tags(
        (name = "jobs", description = "What a person asked for."),
        (name = "recordings", description = "A video and everything made of it."),
        (name = "livestreams", description = "Channels that may be on air."),
        (name = "playback", description = "Footage of cameras, by its time. A camera is a livestream."),
        (name = "abr", description = "Players whose quality the farm chooses."),
        (name = "streams", description = "Viewers who join something by name, so many at most."),
        (name = "uploads", description = "Files on their way in: tus 1.0."),
        (name = "profiles", description = "Named recipes."),
        (name = "projects", description = "Tenants, their share of the farm and their limits."),
        (name = "events", description = "What happens, as it happens."),
        (name = "webhooks", description = "Where events are sent, and what came of it."),
        (name = "keys", description = "Who may do what."),
        (name = "fleet", description = "Workers and queues."),
    ),
)]
pub(crate) struct Description;

/// Operations are called after their handlers, which share names: the tag in front makes `jobs_list` of `list`.
pub(crate) fn name_operations(description: &mut OpenApiDocument) {
    for item in description.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.options,
            &mut item.head,
            &mut item.patch,
        ];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses.entry("401".to_owned()).or_insert_with(|| {
                let content = Content::new(Some(Ref::from_schema_name("ProblemDocument")));
                let description = "No key came along, or it is unknown, expired or revoked.";
                Response::builder()
                    .description(description)
                    .content("application/problem+json", content)
                    .into()
            });
            let tag = operation.tags.iter().flatten().next().cloned();
            if let (Some(tag), Some(id)) = (tag, &mut operation.operation_id) {
                *id = format!("{tag}_{id}");
            }
        }
    }
}

struct Security;

impl Modify for Security {
    fn modify(&self, openapi: &mut OpenApiDocument) {
        let components = openapi.components.get_or_insert_with(Default::default);
        let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Api-Key")));
        components.add_security_scheme("bearer", bearer);
        components.add_security_scheme("api_key", header);
    }
}

#[cfg(test)]
mod tests {
    use reelmill_shared::media::abr::BitrateProfile;
    use serde_json::Value;

    /// Every list of words in a document.
    fn words(node: &Value, found: &mut Vec<Value>) {
        match node {
            Value::Object(fields) => {
                found.extend(fields.get("enum").and_then(Value::as_array).into_iter().flatten().cloned());
                fields.values().for_each(|field| words(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| words(item, found)),
            _ => {}
        }
    }

    /// Words with a text of their own beside an `inline` come out as what is a string and an object, which nothing is.
    #[test]
    fn nothing_is_described_as_two_things() {
        fn bare(node: &Value) -> bool {
            let all = node.get("allOf").and_then(Value::as_array).into_iter().flatten();
            let is_bare = |part: &Value| part["type"] == "object" && part.get("properties").is_none();
            let children: Vec<&Value> = match node {
                Value::Object(fields) => fields.values().collect(),
                Value::Array(items) => items.iter().collect(),
                _ => vec![],
            };
            all.into_iter().any(is_bare) || children.into_iter().any(bare)
        }
        let description = serde_json::to_value(crate::description()).unwrap();
        for (name, schema) in description["components"]["schemas"].as_object().unwrap() {
            assert!(!bare(schema), "{name}: {schema}");
        }
    }

    #[test]
    fn words_are_described_as_they_are_on_the_wire() {
        let description = serde_json::to_value(crate::description()).unwrap();
        let mut found = vec![];
        words(&description, &mut found);
        assert!(found.contains(&"transcode".into()) && found.contains(&"live:read".into()), "{found:?}");
        // Bitrate profiles are written with capitals, and are nothing else's words.
        let profiles: Vec<Value> =
            BitrateProfile::ALL.iter().map(|profile| profile.as_str().into()).collect();
        found.retain(|word| !profiles.contains(word));
        let capitals = |word: &&Value| word.as_str().is_some_and(|word| word.chars().any(char::is_uppercase));
        assert_eq!(found.iter().find(capitals), None);
    }
}
