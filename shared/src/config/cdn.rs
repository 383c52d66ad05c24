//! `REELMILL_CDN_*`.

use url::Url;

use super::Vars;

/// A CDN that viewers fetch media from.
#[derive(Debug, Clone)]
pub struct CdnConfig {
    /// `REELMILL_CDN_URL`: the base of the addresses that viewers are given.
    pub url: Url,
    /// `REELMILL_CDN_PURGE_URL`: takes the surrogate keys of what is to be forgotten.
    pub purge_url: Option<Url>,
    /// `REELMILL_CDN_WARM_URL`: takes addresses that are to be fetched ahead; without it they are asked of the CDN itself.
    pub warm_url: Option<Url>,
    /// `REELMILL_CDN_TOKEN`: the bearer of both hooks.
    pub token: Option<String>,
    /// `REELMILL_CDN_WARM_RECORDINGS` (false): recordings are fetched ahead once there is something to play.
    pub warm_recordings: bool,
}

impl CdnConfig {
    /// `None` where there is no CDN.
    pub(super) fn read(vars: &mut Vars) -> Option<Self> {
        let mut url = |name: &'static str| {
            let url: Option<Url> = vars.value(name).optional();
            if url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https") || !url.has_host()) {
                vars.fault(name, "must have the form https://host");
            }
            url
        };
        let [base, purge_url, warm_url] =
            ["REELMILL_CDN_URL", "REELMILL_CDN_PURGE_URL", "REELMILL_CDN_WARM_URL"].map(&mut url);
        // Players put newer tokens into paths, and pages name the origin in their policy.
        if base.as_ref().is_some_and(|url| url.path() != "/" || url.query().is_some() || has_password(url)) {
            vars.fault("REELMILL_CDN_URL", "must be a scheme and a host, without a path and a password");
        }
        let token = vars.secret("REELMILL_CDN_TOKEN").optional();
        let warm_recordings = vars.value("REELMILL_CDN_WARM_RECORDINGS").or(false);
        if base.is_none() && (purge_url.is_some() || warm_url.is_some() || warm_recordings) {
            vars.fault(
                "REELMILL_CDN_URL",
                "goes with REELMILL_CDN_PURGE_URL, _WARM_URL and _WARM_RECORDINGS",
            );
        }
        Some(Self { url: base?, purge_url, warm_url, token, warm_recordings })
    }
}

fn has_password(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}
