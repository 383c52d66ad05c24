//! Making a new cluster.

use std::fs;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::binaries::Binaries;
use super::place::{Place, command, private_dir, write_whole};
use super::{ClusterError, ROLE, io_error};

/// Beginning of the names of directories in which clusters are made.
const STAGE: &str = "postgres.init-";

/// Makes the cluster of a place. It is made under another name and renamed when it is complete, so that one
/// that was killed half-way is never taken for a cluster.
pub(super) async fn make(
    binaries: &Binaries,
    place: &Place,
    password: &str,
    durable: bool,
) -> Result<(), ClusterError> {
    let user = place.user.as_ref();
    let parent = place.cluster.parent().unwrap_or(&place.cluster);
    sweep(parent);
    let stage = parent.join(format!("{STAGE}{}", hex::encode(rand::random::<[u8; 4]>())));
    private_dir(&stage, user)?;
    let (made, secret) = (stage.join("made"), stage.join("password"));
    write_whole(&secret, &verifier(password, &rand::random()))?;
    user.map_or(Ok(()), |user| user.own(&secret))?;
    let program = binaries.initdb();
    let mut initdb = command(&program, user);
    initdb
        .args([
            "--username",
            ROLE,
            "--encoding=UTF8",
            "--locale=C",
            "--auth=scram-sha-256",
            "--no-instructions",
        ])
        .arg("--pwfile")
        .arg(&secret)
        .arg("--pgdata")
        .arg(&made)
        .kill_on_drop(true);
    if !durable {
        initdb.arg("--no-sync");
    }
    let output = initdb.output().await.map_err(|source| ClusterError::Spawn { program, source });
    let result = output.and_then(|output| {
        if output.status.success() {
            return fs::rename(&made, &place.cluster).map_err(io_error("create", &place.cluster));
        }
        let said = [output.stdout, output.stderr].concat();
        Err(ClusterError::Init {
            status: output.status,
            output: String::from_utf8_lossy(&said).trim().to_owned(),
        })
    });
    sweep(parent);
    result?;
    if durable {
        let synced = fs::File::open(parent).and_then(|dir| dir.sync_all());
        synced.map_err(io_error("write", parent))?;
    }
    Ok(())
}

/// What PostgreSQL stores of a password, and takes in the place of one:
/// `SCRAM-SHA-256$<rounds>:<salt>$<keys>` (RFC 5803).
///
/// Made here for the sake of its single round. Thousands are meant to slow down the guessing of passwords
/// that people think up; ours has 192 random bits, and they would cost every new connection of an unoptimised
/// build 60 ms.
fn verifier(password: &str, salt: &[u8; 16]) -> String {
    let salted = hmac(password.as_bytes(), &[salt.as_slice(), &1_u32.to_be_bytes()].concat());
    let stored_key = Sha256::digest(hmac(&salted, b"Client Key"));
    let server_key = hmac(&salted, b"Server Key");
    let [salt, stored_key, server_key] =
        [salt.as_slice(), stored_key.as_slice(), &server_key].map(|bytes| BASE64_STANDARD.encode(bytes));
    format!("SCRAM-SHA-256$1:{salt}${stored_key}:{server_key}")
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(text));
    // A key of any length will do for HMAC; the error is there for other kinds.
    mac.map(|mac| mac.finalize().into_bytes().to_vec()).unwrap_or_default()
}

/// Removes what starts that were killed left behind. The data directory's lock is ours, so nobody is at work
/// there.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(STAGE) {
            // It is only in the way of nobody if it stays.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
