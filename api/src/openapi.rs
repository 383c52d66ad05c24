//! The API's description, generated from the handlers.

use utoipa::openapi::OpenApi as OpenApiDocument;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// The frame the routes are filled into.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Reelmill",
        description = "A transcoding farm: files and live streams go in, streams that play everywhere come out.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    modifiers(&Security),
    security(("bearer" = []), ("api_key" = [])),
    tags(
        (name = "jobs", description = "What a person asked for."),
        (name = "recordings", description = "A video and everything made of it."),
        (name = "uploads", description = "Files on their way in: tus 1.0."),
        (name = "profiles", description = "Named recipes."),
        (name = "events", description = "What happens, as it happens."),
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
