//! How the api is spoken to: HTTP/1.1, HTTP/2, in clear and by TLS.

use std::time::Duration;

use reelmill_testkit::Farm;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use reqwest::{Certificate, StatusCode, Version};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn http2_is_spoken_in_clear_and_by_tls_beside_http1() {
    let mut farm = Farm::builder().processes(1, 0, 1).without_broker().start().await;
    let plain = farm.client.base.clone();
    for (client, version) in [
        (reqwest::Client::builder().http1_only(), Version::HTTP_11),
        (reqwest::Client::builder().http2_prior_knowledge(), Version::HTTP_2),
    ] {
        let answer = client.build().unwrap().get(format!("{plain}/readyz")).send().await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, version));
    }

    let certificate = certificate(&mut farm);
    farm.add(Part::Api).await;
    let api = farm.processes.last().unwrap();
    let address = until("the api to listen", SOON, || async { api.listens_at() }).await;
    let base = format!("https://localhost:{}", address.rsplit_once(':').unwrap().1);
    let trusting = || reqwest::Client::builder().tls_certs_only([certificate.clone()]);
    for (client, version) in [(trusting(), Version::HTTP_2), (trusting().http1_only(), Version::HTTP_11)] {
        let client = client.build().unwrap();
        let answer = client
            .post(format!("{base}/api/v1/livestreams"))
            .bearer_auth(&farm.client.key)
            .json(&serde_json::json!({ "title": "by TLS" }))
            .send()
            .await
            .unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::CREATED, version));
        let made: Value = answer.json().await.unwrap();
        let path = format!("{base}/api/v1/livestreams/{}/playback-token", made["id"].as_str().unwrap());
        let answer = client.post(path).bearer_auth(&farm.client.key).send().await.unwrap();
        let told = answer.text().await.unwrap();
        assert!(told.contains(&base), "{told} names no address of {base}");
    }
    // Nothing else is trusted with it, and nobody is answered in clear.
    let stranger = reqwest::Client::builder().build().unwrap();
    assert!(stranger.get(format!("{base}/readyz")).send().await.is_err());
    assert!(stranger.get(format!("http://{address}/readyz")).send().await.is_err());
    farm.stop().await;
}

/// Makes a certificate for `localhost`, and sets it for the processes that follow.
fn certificate(farm: &mut Farm) -> Certificate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (setting, name, text) in [
        ("REELMILL_TLS_CERT", "cert.pem", made.cert.pem()),
        ("REELMILL_TLS_KEY", "key.pem", made.signing_key.serialize_pem()),
    ] {
        let path = farm.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        farm.set(setting, path.display());
    }
    Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
}

#[tokio::test]
async fn whoever_connects_and_says_nothing_is_sent_away() {
    let farm = Farm::builder().processes(1, 0, 1).without_broker().start().await;
    let address = farm.client.base.strip_prefix("http://").unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let ended = tokio::time::timeout(SOON, silent.read(&mut [0; 1])).await;
    assert_eq!(ended.expect("the connection is still open").unwrap(), 0);
    farm.stop().await;
}
