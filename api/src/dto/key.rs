//! API keys on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::keys::ApiKey;
use reelmill_shared::ids::{KeyId, ProjectId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /keys`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKeyDto {
    /// For people; at most 100 characters.
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
    /// Name of the project the key is for, made if it is not there; the caller's own where it is left out.
    pub(crate) project: Option<String>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

/// A key as listed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyDto {
    pub(crate) id: KeyId,
    pub(crate) project_id: ProjectId,
    pub(crate) name: String,
    /// The first characters, to tell keys apart.
    pub(crate) prefix: String,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) revoked_at: Option<DateTime<Utc>>,
}

/// A new key, with the only showing of its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedKeyDto {
    #[serde(flatten)]
    pub(crate) key: KeyDto,
    /// Shown once.
    pub(crate) secret: String,
}

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyListDto {
    pub(crate) keys: Vec<KeyDto>,
    pub(crate) next_cursor: Option<String>,
}

impl From<ApiKey> for KeyDto {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            project_id: key.project_id,
            name: key.name,
            prefix: key.prefix,
            scopes: key.scopes,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
        }
    }
}
