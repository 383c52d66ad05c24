//! Sizes, times, statuses and broken connections.

use super::*;

#[tokio::test]
async fn an_open_address_answers() {
    let server =
        Server::start(|_| vec![("/a", Does::Says(answer("200 OK", "X-Kind: film\r\n", "hello")))]).await;
    let response = local(limits()).get(&server.url("/a?b=c"), HeaderMap::new()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-kind"], "film");
    assert_eq!(response.content_length(), Some(5));
    assert_eq!(response.remote_addr(), Some(server.addr));
    let chunks: Vec<Bytes> = response.into_stream().try_collect().await.unwrap();
    assert_eq!(chunks.concat(), b"hello");
    let request = server.requests().remove(0);
    assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("accept-encoding: identity\r\n"), "{request}");
    assert!(request.contains("user-agent: reelmill/"), "{request}");
    assert!(!request.to_lowercase().contains("content-length"), "{request}");
}

#[tokio::test]
async fn bodies_end_at_the_limit_whatever_they_say() {
    let big = "x".repeat(100_001);
    let server = Server::start(|_| {
        vec![
            ("/honest", Does::Says(answer("200 OK", "", &big))),
            ("/silent", Does::Says(format!("{OPEN_ENDED}{big}"))),
            ("/fits", Does::Says(format!("{OPEN_ENDED}{}", &big[1..]))),
            ("/endless", Does::Repeats(OPEN_ENDED.to_owned(), vec![b'x'; 8192], Duration::ZERO)),
            (
                "/chunks",
                Does::Repeats(
                    CHUNKED.to_owned(),
                    format!("400\r\n{}\r\n", &big[..0x400]).into_bytes(),
                    Duration::ZERO,
                ),
            ),
            ("/short", Does::Says(OPEN_ENDED.replace("\r\n\r\n", "\r\nContent-Length: 9\r\n\r\n1234"))),
        ]
    })
    .await;
    let client = local(limits());
    for path in ["/honest", "/silent", "/endless", "/chunks"] {
        let error = fetch(&client, &server.url(path)).await.unwrap_err();
        assert!(matches!(error, NetError::TooLarge { limit: 100_000, .. }), "{path}: {error:?}");
        assert!(!error.retryable());
    }
    assert_eq!(fetch(&client, &server.url("/fits")).await.unwrap().len(), 100_000);
    // A body that stops early is an error, and stays one.
    let mut response = client.get(&server.url("/short"), HeaderMap::new()).await.unwrap();
    let error = loop {
        match response.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a short body was taken for a whole one"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, NetError::Transport { .. }) && error.retryable(), "{error:?}");
    assert!(response.chunk().await.is_err());
}

#[tokio::test]
async fn slow_servers_run_into_the_time_limits() {
    let server = Server::start(|_| {
        vec![
            ("/mute", Does::Hangs(String::new())),
            (
                "/headers",
                Does::Repeats("HTTP/1.1 200 OK\r\nX-A: ".into(), b"a".to_vec(), Duration::from_millis(20)),
            ),
            ("/stalls", Does::Hangs(format!("{OPEN_ENDED}begin"))),
            ("/trickles", Does::Repeats(OPEN_ENDED.to_owned(), b"a".to_vec(), Duration::from_millis(20))),
        ]
    })
    .await;
    let short = Duration::from_millis(150);
    let client = local(Limits { connect: short, idle: short, total: Duration::from_millis(900), ..limits() });
    for (path, waited_for) in [
        ("/mute", "an answer"),
        ("/headers", "an answer"),
        ("/stalls", "more data"),
        ("/trickles", "the whole exchange"),
    ] {
        let begun = Instant::now();
        let error = fetch(&client, &server.url(path)).await.unwrap_err();
        assert!(matches!(error, NetError::Timeout { what, .. } if what == waited_for), "{path}: {error:?}");
        assert!(error.retryable());
        assert!(begun.elapsed() < Duration::from_secs(3), "{path} took {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn statuses_say_whether_to_try_again() {
    let server = Server::start(|_| {
        let says = |status: &str, headers: &str| Does::Says(answer(status, headers, "why\u{7} not\n"));
        vec![
            ("/503", says("503 Service Unavailable", "Retry-After: 7\r\n")),
            ("/429", says("429 Too Many Requests", "")),
            ("/408", says("408 Request Timeout", "")),
            ("/403", says("403 Forbidden", "")),
            ("/304", Does::Says("HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_owned())),
            (
                "/endless",
                Does::Repeats("HTTP/1.1 500 Oh\r\n\r\n".to_owned(), vec![b'x'; 512], Duration::ZERO),
            ),
        ]
    })
    .await;
    let client = local(limits());
    for (path, retryable) in [
        ("/503", true),
        ("/429", true),
        ("/408", true),
        ("/endless", true),
        ("/403", false),
        ("/404", false),
        ("/304", false),
    ] {
        let error = fetch(&client, &server.url(path)).await.unwrap_err();
        let status = error.status().unwrap().as_u16();
        assert!(path == "/endless" || path == format!("/{status}"), "{path}: {error:?}");
        assert_eq!(error.retryable(), retryable, "{path}");
        if let (503, NetError::Status { excerpt, .. }) = (status, &error) {
            assert_eq!(excerpt, "why  not");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        }
    }
}

#[tokio::test]
async fn posts_carry_their_body_and_follow_nothing() {
    let server = Server::start(|addr| {
        vec![
            ("/hook", Does::Says(answer("204 No Content", "", ""))),
            ("/moved", Does::Says(answer("307 Moved", &format!("Location: http://{addr}/hook\r\n"), ""))),
        ]
    })
    .await;
    let client = local(limits());
    let body = Bytes::from_static(b"{\"type\":\"job.succeeded\"}");
    let own =
        || headers([("content-type", "application/json"), ("webhook-id", "e1"), ("content-length", "3")]);
    let answer = client
        .post(&server.url("/hook"), own(), body.clone(), Limits::webhook(Duration::from_secs(5)))
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
    let request = server.requests().remove(0);
    assert!(
        request.starts_with("POST /hook ") && request.ends_with("\r\n\r\n{\"type\":\"job.succeeded\"}"),
        "{request}"
    );
    assert!(
        request.contains("content-length: 24\r\n") && request.contains("webhook-id: e1\r\n"),
        "{request}"
    );
    let error = client
        .post(&server.url("/moved"), own(), body, Limits::webhook(Duration::from_secs(5)))
        .await
        .unwrap_err();
    assert_eq!(error.status().map(|status| status.as_u16()), Some(307));
    assert!(!error.retryable());
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn broken_connections_are_retryable_and_bad_tls_is_not() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = local(limits());
    let error = fetch(&client, &format!("http://u:p@{free}/x?sig=1").parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, NetError::Transport { .. }) && error.retryable(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("sig=1"), "{error:?}");

    let server = Server::start(|_| vec![("/closes", Does::Says(String::new()))]).await;
    let error = fetch(&client, &server.url("/closes")).await.unwrap_err();
    assert!(matches!(error, NetError::Transport { .. }) && error.retryable(), "{error:?}");

    // Plain HTTP where TLS is expected.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = fetch(&client, &format!("https://{addr}/").parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, NetError::Tls { .. }) && !error.retryable(), "{error:?}");
}
