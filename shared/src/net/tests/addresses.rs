//! Where requests may go, and what they carry there.

use super::*;

#[tokio::test]
async fn refused_addresses_are_never_connected_to() {
    let server =
        Server::start_on(Ipv4Addr::UNSPECIFIED, |_| vec![("/", Does::Says(answer("200 OK", "", "secret")))])
            .await;
    let port = server.addr.port();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "127.1",
        "0",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "localhost",
        "user:pass@127.0.0.1",
    ] {
        let url = format!("http://{host}:{port}/").parse().unwrap();
        let error = fetch(&guarded(), &url).await.unwrap_err();
        assert!(matches!(error, NetError::Refused { .. }), "{host}: {error:?}");
        assert!(!error.retryable());
        assert!(!error.to_string().contains("pass"), "{error}");
    }
    assert_eq!(server.connections(), 0);
    // The same spellings work where the address is open, so it was the policy that refused them.
    let open = GuardedClient::new("127.0.0.0/8, 0.0.0.0, ::1".parse().unwrap(), limits()).unwrap();
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"] {
        let url = format!("http://{host}:{port}/").parse().unwrap();
        assert_eq!(fetch(&open, &url).await.unwrap(), "secret", "{host}");
    }
}

#[tokio::test]
async fn redirects_to_refused_addresses_are_refused() {
    // Served from the open 127.0.0.1, it points at its own port on addresses that are not open.
    let server = Server::start_on(Ipv4Addr::UNSPECIFIED, |addr| {
        let port = addr.port();
        vec![
            ("/literal", redirect(&format!("http://127.0.0.2:{port}/secret"))),
            ("/number", redirect(&format!("http://2130706434:{port}/secret"))),
            ("/mapped", redirect(&format!("http://[::ffff:127.0.0.2]:{port}/secret"))),
            ("/metadata", redirect("http://169.254.169.254/latest/meta-data/")),
            ("/twice", redirect("/literal")),
            ("/file", redirect("file:///etc/passwd")),
            ("/secret", Does::Says(answer("200 OK", "", "secret"))),
        ]
    })
    .await;
    let client = local(limits());
    for path in ["/literal", "/number", "/mapped", "/metadata", "/twice", "/file"] {
        let url = format!("http://127.0.0.1:{}{path}", server.addr.port()).parse().unwrap();
        let error = fetch(&client, &url).await.unwrap_err();
        assert!(matches!(error, NetError::Refused { .. } | NetError::Scheme(_)), "{path}: {error:?}");
        assert!(!error.retryable());
    }
    assert!(server.requests().iter().all(|request| !request.contains("/secret")));
}

#[tokio::test]
async fn a_redirect_to_a_name_of_a_refused_address_is_refused() {
    let server = Server::start_on(Ipv4Addr::new(127, 0, 0, 3), |addr| {
        vec![("/name", redirect(&format!("http://localhost:{}/", addr.port())))]
    })
    .await;
    let client = GuardedClient::new("127.0.0.3".parse().unwrap(), limits()).unwrap();
    let error = fetch(&client, &server.url("/name")).await.unwrap_err();
    assert!(matches!(&error, NetError::Refused { host, .. } if host == "localhost"), "{error:?}");
}

#[tokio::test]
async fn redirects_are_followed_up_to_the_limit_and_secrets_stay_home() {
    let other = Server::start(|_| vec![("/there", Does::Says(answer("200 OK", "", "there")))]).await;
    let there = other.url("/there").to_string();
    let server = Server::start(|_| {
        vec![("/near", redirect("far")), ("/far", redirect(&there)), ("/loop", redirect("/loop"))]
    })
    .await;
    let mut start = server.url("/near");
    start.set_username("me@home").unwrap();
    start.set_password(Some("pass word")).unwrap();
    let own = headers([("x-auth-token", "t0ken"), ("range", "bytes=0-9"), ("host", "evil.example")]);
    let response = local(limits()).get(&start, own).await.unwrap();
    assert_eq!(response.url(), &other.url("/there"));
    assert_eq!(response.bytes().await.unwrap(), "there");
    for request in server.requests() {
        // base64 of "me@home:pass word"
        assert!(request.contains("authorization: Basic bWVAaG9tZTpwYXNzIHdvcmQ=\r\n"), "{request}");
        assert!(request.contains("x-auth-token: t0ken\r\n"), "{request}");
        assert!(!request.contains("evil.example"), "{request}");
    }
    assert_eq!(server.requests().len(), 2);
    let strange = other.requests().remove(0);
    assert!(!strange.contains("authorization") && !strange.contains("t0ken"), "{strange}");
    assert!(strange.contains("range: bytes=0-9\r\n"), "{strange}");

    let error = fetch(&local(limits()), &server.url("/loop")).await.unwrap_err();
    assert!(matches!(error, NetError::TooManyRedirects { limit: 5, .. }), "{error:?}");
    assert!(!error.retryable());
    assert_eq!(server.requests().len(), 2 + 6);
}
