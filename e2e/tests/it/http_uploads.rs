//! Uploads: tus 1.0 and forms.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{answer, files_under, header, is_problem, objects_dir, pointers, text};

const OCTETS: &str = "application/offset+octet-stream";

#[tokio::test]
async fn http_uploads() {
    let farm = Farm::builder().processes(2, 1, 1).set("REELMILL_UPLOAD_MAX_BYTES", 20 << 20).start().await;
    let (first, second) = (farm.api(0), farm.api(1));
    the_server_says_what_it_knows(&first).await;
    requests_are_checked(&first).await;
    bytes_arrive_in_parts(&first, &second).await;
    a_broken_connection_keeps_what_arrived(&farm, &second).await;
    checksums_are_all_or_nothing(&farm).await;
    lengths_may_come_late(&first).await;
    too_much_is_refused(&first).await;
    of_two_writers_one_wins(&farm).await;
    uploads_can_be_given_up(&farm).await;
    pieces_become_a_film(&first, &second).await;
    forms_carry_files(&first).await;
    empty_uploads_make_nothing(&first).await;
    farm.stop().await;
}

fn tus(api: &Client, method: Method, path: &str) -> RequestBuilder {
    api.request(method, path).header("tus-resumable", "1.0.0")
}

/// Starts an upload and gives its path.
async fn create(api: &Client, length: usize) -> String {
    let request = tus(api, Method::POST, "/api/v1/uploads").header("upload-length", length);
    let (status, headers, body) = answer(request).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    header(&headers, "location").to_owned()
}

fn patch(api: &Client, upload: &str, offset: usize, bytes: impl Into<reqwest::Body>) -> RequestBuilder {
    tus(api, Method::PATCH, upload).header("upload-offset", offset).header("content-type", OCTETS).body(bytes)
}

/// Sends bytes that must arrive, and gives where the upload stands then.
async fn send(api: &Client, upload: &str, offset: usize, bytes: &[u8]) -> usize {
    let (status, headers, body) = answer(patch(api, upload, offset, bytes.to_vec())).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    assert_eq!(header(&headers, "tus-resumable"), "1.0.0");
    number(&headers, "upload-offset")
}

fn number(headers: &HeaderMap, name: &str) -> usize {
    header(headers, name).parse().unwrap()
}

async fn stands_at(api: &Client, upload: &str) -> usize {
    let (status, headers, _) = answer(tus(api, Method::HEAD, upload)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((header(&headers, "cache-control"), header(&headers, "tus-resumable")), ("no-store", "1.0.0"));
    number(&headers, "upload-offset")
}

fn id(upload: &str) -> &str {
    upload.rsplit('/').next().unwrap()
}

/// The bytes of an upload as they lie in the store, by the rows that name them.
async fn stored(farm: &Farm, upload: &str) -> Vec<u8> {
    let db = farm.database.connect().await;
    let id: uuid::Uuid = id(upload).parse().unwrap();
    let rows =
        db.query("select key from upload_pieces where upload_id = $1 order by start", &[&id]).await.unwrap();
    let keys = rows.iter().map(|row| row.get::<_, String>("key"));
    keys.flat_map(|key| std::fs::read(objects_dir(farm).join(key)).unwrap()).collect()
}

/// Objects in the store that belong to an upload.
fn objects(farm: &Farm, upload: &str) -> usize {
    let all = files_under(&objects_dir(farm));
    all.iter().filter(|path| path.display().to_string().contains(id(upload))).count()
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 % 251) as u8).collect()
}

async fn the_server_says_what_it_knows(api: &Client) {
    let (status, headers, _) = answer(api.anonymous(Method::OPTIONS, "/api/v1/uploads")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(header(&headers, "tus-version"), "1.0.0");
    assert_eq!(header(&headers, "tus-max-size"), (20 << 20).to_string());
    for extension in ["creation", "creation-defer-length", "termination", "checksum"] {
        assert!(header(&headers, "tus-extension").split(',').any(|word| word == extension));
    }
}

async fn requests_are_checked(api: &Client) {
    let post = || tus(api, Method::POST, "/api/v1/uploads");
    let unversioned = api.request(Method::POST, "/api/v1/uploads").header("upload-length", 1);
    let unversioned = answer(unversioned).await;
    is_problem(&unversioned, 412, "malformed");
    assert_eq!(header(&unversioned.1, "tus-version"), "1.0.0");
    for (name, value) in [
        ("x-nothing", "x"),
        ("upload-length", "x"),
        ("upload-length", "-1"),
        ("upload-length", "99999999999999999999"),
        ("upload-defer-length", "2"),
    ] {
        is_problem(&answer(post().header(name, value)).await, 400, "malformed");
    }
    for metadata in ["filename %%%", "a eA==,b eA"] {
        let request = post().header("upload-length", 1).header("upload-metadata", metadata);
        is_problem(&answer(request).await, 400, "malformed");
    }
    let upload = create(api, 4).await;
    let plain = tus(api, Method::PATCH, &upload).header("upload-offset", 0).body("abcd");
    is_problem(&answer(plain).await, 415, "unsupported-media-type");
    let nowhere = tus(api, Method::PATCH, &upload).header("content-type", OCTETS).body("abcd");
    is_problem(&answer(nowhere).await, 400, "malformed");
    for checksum in ["md5 AAAA", "sha1", "sha1 %%%"] {
        let request = patch(api, &upload, 0, "abcd").header("upload-checksum", checksum);
        is_problem(&answer(request).await, 400, "malformed");
    }
    assert_eq!(stands_at(api, &upload).await, 0);
    // An answer to a refused request is tus, too.
    let elsewhere = answer(patch(api, &upload, 3, "d")).await;
    is_problem(&elsewhere, 409, "conflict");
    assert_eq!((header(&elsewhere.1, "tus-resumable"), number(&elsewhere.1, "upload-offset")), ("1.0.0", 0));
}

/// By processes that take turns.
async fn bytes_arrive_in_parts(first: &Client, second: &Client) {
    let data = bytes(300_000);
    let name = format!("filename {},more eA==", STANDARD.encode("film.mp4"));
    let request = tus(first, Method::POST, "/api/v1/uploads").header("upload-length", data.len());
    let (_, headers, _) = answer(request.header("upload-metadata", &name)).await;
    let upload = header(&headers, "location").to_owned();
    let mut offset = 0;
    for (turn, part) in data.chunks(70_000).enumerate() {
        let api = [first, second][turn % 2];
        assert_eq!(stands_at(api, &upload).await, offset);
        offset = send(api, &upload, offset, part).await;
    }
    assert_eq!(offset, data.len());
    let (_, headers, _) = answer(tus(second, Method::HEAD, &upload)).await;
    assert_eq!(
        (number(&headers, "upload-length"), header(&headers, "upload-metadata")),
        (data.len(), name.as_str())
    );
    // It is whole: nothing more goes in.
    is_problem(&answer(patch(first, &upload, 0, "x")).await, 409, "conflict");
    is_problem(&answer(patch(first, &upload, data.len(), "x")).await, 413, "payload-too-large");
    // Nothing was made of it: it can still be given up.
    assert_eq!(answer(tus(first, Method::DELETE, &upload)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(answer(tus(second, Method::HEAD, &upload)).await.0, StatusCode::NOT_FOUND);
}

/// A PATCH whose client goes away in the middle of it.
async fn broken_patch(api: &Client, upload: &str, announced: usize, sent: &[u8], headers: &str) -> TcpStream {
    let address = api.base.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PATCH {upload} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nTus-Resumable: 1.0.0\r\n\
         Upload-Offset: 0\r\nContent-Type: {OCTETS}\r\nContent-Length: {announced}\r\n{headers}\r\n",
        api.key
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(sent).await.unwrap();
    socket
}

async fn a_broken_connection_keeps_what_arrived(farm: &Farm, other: &Client) {
    let data = bytes(1_000_000);
    let upload = create(&farm.client, data.len()).await;
    let socket = broken_patch(&farm.client, &upload, data.len(), &data[..400_000], "").await;
    drop(socket);
    until("what arrived to be kept", Duration::from_secs(10), || async {
        (stands_at(other, &upload).await == 400_000).then_some(())
    })
    .await;
    assert_eq!(send(other, &upload, 400_000, &data[400_000..]).await, data.len());
    assert!(stored(farm, &upload).await == data, "not a byte lost or doubled at the seam");
    // With a checksum it is all or nothing: what came before the break proves nothing.
    let upload = create(&farm.client, data.len()).await;
    let mut socket =
        broken_patch(&farm.client, &upload, data.len(), &data[..400_000], "Upload-Checksum: sha1 AAAA\r\n")
            .await;
    socket.shutdown().await.unwrap();
    // Whatever the answer is, it comes when the server is done with the request.
    let _ = socket.read_to_end(&mut vec![]).await;
    assert_eq!(stands_at(other, &upload).await, 0);
    until("the piece to be gone", Duration::from_secs(5), || async {
        (objects(farm, &upload) == 0).then_some(())
    })
    .await;
}

async fn checksums_are_all_or_nothing(farm: &Farm) {
    let api = &farm.client;
    // Of "hello world", by sha1sum and sha256sum.
    let sums = [
        ("sha1", "2aae6c35c94fcfb415dbe95f408b9ce91ee846ed"),
        ("sha256", "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"),
    ];
    for (algorithm, sum) in sums {
        let sum: Vec<u8> =
            (0..sum.len()).step_by(2).map(|at| u8::from_str_radix(&sum[at..at + 2], 16).unwrap()).collect();
        let sum = format!("{algorithm} {}", STANDARD.encode(sum));
        let upload = create(api, 11).await;
        let wrong = answer(patch(api, &upload, 0, "hello worle").header("upload-checksum", &sum)).await;
        assert_eq!(wrong.0.as_u16(), 460, "{}", wrong.2);
        assert_eq!((stands_at(api, &upload).await, objects(farm, &upload)), (0, 0));
        let right = answer(patch(api, &upload, 0, "hello world").header("upload-checksum", &sum)).await;
        assert_eq!(right.0, StatusCode::NO_CONTENT, "{}", right.2);
        assert_eq!(stored(farm, &upload).await, b"hello world");
    }
}

async fn lengths_may_come_late(api: &Client) {
    for last in ["", "cd"] {
        let request = tus(api, Method::POST, "/api/v1/uploads").header("upload-defer-length", 1);
        let (status, headers, _) = answer(request).await;
        assert_eq!(status, StatusCode::CREATED);
        let upload = header(&headers, "location").to_owned();
        assert_eq!(send(api, &upload, 0, b"ab").await, 2);
        let (_, headers, _) = answer(tus(api, Method::HEAD, &upload)).await;
        assert_eq!(header(&headers, "upload-defer-length"), "1");
        let job = json!({ "kind": "probe", "input": { "upload_id": id(&upload) } });
        assert_eq!(api.try_post("/jobs", &job).await.0, 422, "not finished yet");
        let less = patch(api, &upload, 2, "").header("upload-length", 1);
        is_problem(&answer(less).await, 400, "malformed");
        // The length with the last bytes, or alone when they are all there.
        let length = 2 + last.len();
        let (status, _, body) = answer(patch(api, &upload, 2, last).header("upload-length", length)).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
        let (_, headers, _) = answer(tus(api, Method::HEAD, &upload)).await;
        assert_eq!((number(&headers, "upload-length"), number(&headers, "upload-offset")), (length, length));
        let (status, body) = api.try_post("/jobs", &job).await;
        assert_eq!(status, StatusCode::CREATED, "finished: {body}");
    }
}

async fn too_much_is_refused(api: &Client) {
    let request = tus(api, Method::POST, "/api/v1/uploads").header("upload-length", (20 << 20) + 1);
    is_problem(&answer(request).await, 413, "payload-too-large");
    let upload = create(api, 10).await;
    is_problem(&answer(patch(api, &upload, 0, "hello world")).await, 413, "payload-too-large");
    assert!(stands_at(api, &upload).await <= 10);
    let upload = create(api, 10).await;
    let checked = patch(api, &upload, 0, "hello world").header("upload-checksum", "sha1 AAAA");
    is_problem(&answer(checked).await, 413, "payload-too-large");
    assert_eq!(stands_at(api, &upload).await, 0);
}

async fn of_two_writers_one_wins(farm: &Farm) {
    // At once: each says something else.
    let upload = create(&farm.client, 200_000).await;
    let requests =
        (0..8u8).map(|n| answer(patch(&farm.api(usize::from(n % 2)), &upload, 0, vec![n; 100_000])));
    let answers = futures::future::join_all(requests).await;
    let winners: Vec<usize> = (0..8).filter(|n| answers[*n].0 == StatusCode::NO_CONTENT).collect();
    assert_eq!(winners.len(), 1);
    for (_, loser) in answers.iter().enumerate().filter(|(n, _)| *n != winners[0]) {
        is_problem(loser, 409, "conflict");
    }
    assert!(stored(farm, &upload).await == vec![winners[0] as u8; 100_000]);
    assert_eq!(objects(farm, &upload), 1, "what the losers wrote is gone");
    // A slow one that was overtaken: a client that came back by another connection.
    let upload = create(&farm.client, 100_000).await;
    let data = bytes(100_000);
    let mut slow =
        broken_patch(&farm.client, &upload, data.len(), &[7; 50_000], "Connection: close\r\n").await;
    assert_eq!(send(&farm.api(1), &upload, 0, &data).await, data.len());
    slow.write_all(&[7; 50_000]).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
    assert!(stored(farm, &upload).await == data);
}

async fn uploads_can_be_given_up(farm: &Farm) {
    let api = &farm.client;
    let upload = create(api, 100).await;
    send(api, &upload, 0, b"abc").await;
    assert_eq!(objects(farm, &upload), 1);
    assert_eq!(answer(tus(api, Method::DELETE, &upload)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(answer(tus(api, Method::HEAD, &upload)).await.0, StatusCode::NOT_FOUND);
    is_problem(&answer(patch(api, &upload, 3, "d")).await, 404, "not-found");
    until("the bytes to be swept", Duration::from_secs(15), || async {
        (objects(farm, &upload) == 0).then_some(())
    })
    .await;
}

async fn pieces_become_a_film(first: &Client, second: &Client) {
    let dir = tempfile::tempdir().unwrap();
    let film = std::fs::read(media::clip(dir.path(), 3, "320x180")).unwrap();
    let upload = create(first, film.len()).await;
    let mut offset = 0;
    for (turn, part) in film.chunks(film.len() / 5 + 1).enumerate() {
        offset = send([first, second][turn % 2], &upload, offset, part).await;
    }
    let body = json!({ "kind": "transcode", "input": { "upload_id": id(&upload) }, "profile": "fast" });
    let job = first.post("/jobs", &body).await;
    let job = second.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let recording = first.get(&format!("/recordings/{}", text(&job, "recording_id"))).await;
    assert_eq!(recording["source"]["size_bytes"], film.len());
    is_problem(&answer(tus(first, Method::DELETE, &upload)).await, 409, "conflict");
    assert!((recording["duration_seconds"].as_f64().unwrap() - 3.0).abs() < 0.2, "{recording}");
}

fn form(api: &Client, parts: &[(&str, &[u8])]) -> RequestBuilder {
    let mut body = vec![];
    for (disposition, content) in parts {
        body.extend(format!("--border\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--border--\r\n");
    api.request(Method::POST, "/api/v1/recordings")
        .header("content-type", "multipart/form-data; boundary=border")
        .body(body)
}

async fn finished(api: &Client, recording: &Value) -> Value {
    let job = api.wait_for(text(recording, "job_id")).await;
    let recording = api.get(&format!("/recordings/{}", text(recording, "id"))).await;
    assert_eq!(recording["status"] == "ready", job["status"] == "succeeded", "{job}");
    recording
}

async fn forms_carry_files(api: &Client) {
    let dir = tempfile::tempdir().unwrap();
    let film = std::fs::read(media::clip(dir.path(), 2, "160x90")).unwrap();
    let file = "name=\"file\"; filename=\"../Ferien ☀.mp4\"";
    let titled =
        form(api, &[("name=\"title\"", "Der Film".as_bytes()), ("name=\"profile\"", b"fast"), (file, &film)]);
    let (status, headers, recording) = answer(titled).await;
    assert_eq!(status, StatusCode::CREATED, "{recording}");
    assert_eq!(header(&headers, "location"), format!("/api/v1/recordings/{}", text(&recording, "id")));
    let recording = finished(api, &recording).await;
    assert_eq!(
        (text(&recording, "title"), text(&recording, "status")),
        ("Der Film", "ready"),
        "{}",
        recording["error"]
    );
    assert_eq!(recording["source"]["size_bytes"], film.len());
    // Named after the file, without what could be a path.
    let (status, _, untitled) = answer(form(api, &[("name=\"profile\"", b"fast"), (file, &film)])).await;
    assert_eq!((status, text(&untitled, "title")), (StatusCode::CREATED, "Ferien ☀.mp4"));

    // Fields may come on either side of the file.
    let (_, _, late) =
        answer(form(api, &[(file, &film), ("name=\"title\"", b"late"), ("name=\"profile\"", b"fast")])).await;
    assert_eq!(text(&late, "title"), "late");
    let job = api.get(&format!("/jobs/{}", text(&late, "job_id"))).await;
    assert_eq!(job["profile"]["name"], "fast");

    for (parts, pointer) in [
        (vec![(file, film.as_slice()), ("name=\"title\"", b" ".as_slice())], "/title"),
        (vec![(file, film.as_slice()), (file, film.as_slice())], "/file"),
        (vec![("name=\"title\"", b"x".as_slice())], "/file"),
        (vec![("name=\"profile\"", b"no-such".as_slice()), (file, film.as_slice())], "/profile"),
        (vec![("name=\"odd\"", b"x".as_slice()), (file, film.as_slice())], "/odd"),
        (vec![("name=\"title\"", b"nul\0".as_slice()), (file, film.as_slice())], "/title"),
    ] {
        let refused = answer(form(api, &parts)).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [pointer]);
    }
    let long = answer(form(api, &[("name=\"title\"", &[b'x'; 5000]), (file, &film)])).await;
    is_problem(&long, 413, "payload-too-large");
    let too_long = answer(form(api, &[(file, &vec![0; (20 << 20) + 1])])).await;
    is_problem(&too_long, 413, "payload-too-large");
    let broken = api.request(Method::POST, "/api/v1/recordings");
    let broken =
        broken.header("content-type", "multipart/form-data; boundary=border").body("--border\r\nnonsense");
    is_problem(&answer(broken).await, 400, "malformed");
}

async fn empty_uploads_make_nothing(api: &Client) {
    let upload = create(api, 0).await;
    let body = json!({ "kind": "transcode", "input": { "upload_id": id(&upload) } });
    let (status, problem) = api.try_post("/jobs", &body).await;
    assert_eq!((status.as_u16(), pointers(&problem)), (422, vec!["/input/upload_id"]));
    let empty = answer(form(api, &[("name=\"file\"; filename=\"a.mp4\"", b"")])).await;
    is_problem(&empty, 422, "validation");
    // An upload that is not finished is no input yet.
    let upload = create(api, 5).await;
    let (status, problem) =
        api.try_post("/jobs", &json!({ "kind": "probe", "input": { "upload_id": id(&upload) } })).await;
    assert_eq!((status.as_u16(), pointers(&problem)), (422, vec!["/input/upload_id"]));
}
