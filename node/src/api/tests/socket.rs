//! The socket itself: permissions, leftovers, bounds, the end.

use super::*;
use std::os::unix::fs::PermissionsExt;
use tokio::sync::Notify;

#[tokio::test]
async fn is_for_its_owner_and_group() {
	let server = Server::start(Fake::new()).await;
	let mode = std::fs::metadata(server.socket()).unwrap().permissions().mode();
	assert_eq!(mode & 0o777, 0o660);
	server.stop().await;
}

#[tokio::test]
async fn one_that_a_crash_left_is_replaced() {
	let dir = tempfile::tempdir().unwrap();
	let path = dir.path().join(SOCKET_NAME);
	// Closed without being removed: what a killed process leaves.
	drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
	assert!(path.exists());
	let admin = Admin::bind(&path).await.unwrap();
	assert!(UnixStream::connect(&path).await.is_ok());
	drop(admin);
}

#[tokio::test]
async fn one_on_which_somebody_answers_is_not() {
	let server = Server::start(Fake::new()).await;
	assert!(matches!(Admin::bind(&server.socket()).await, Err(BindError::InUse(_))));
	assert_eq!(server.get("/v1/info").await.status, 200, "and it still answers");
	server.stop().await;
}

#[tokio::test]
async fn a_file_of_that_name_is_not_removed() {
	let dir = tempfile::tempdir().unwrap();
	let path = dir.path().join(SOCKET_NAME);
	std::fs::write(&path, "precious").unwrap();
	assert!(matches!(Admin::bind(&path).await, Err(BindError::NotASocket(_))));
	assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_path_that_is_too_long_is_said_to_be() {
	let dir = tempfile::tempdir().unwrap();
	let deep = dir.path().join("x".repeat(120));
	std::fs::create_dir(&deep).unwrap();
	assert!(matches!(Admin::bind(&deep.join(SOCKET_NAME)).await, Err(BindError::TooLong(_))));
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
	let server = Server::start(Fake::new()).await;
	let one = "GET /v1/info HTTP/1.1\r\nhost: x\r\n\r\n";
	let last = "GET /v1/balance HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
	let answer = server.raw(format!("{one}{one}{last}").as_bytes()).await;
	assert_eq!(answer.body.matches("HTTP/1.1 200 OK").count(), 2);
	server.stop().await;
}

#[tokio::test]
async fn nonsense_is_answered_and_does_no_harm() {
	let server = Server::start(Fake::new()).await;
	assert_eq!(server.raw(b"\x16\x03\x01 hello\r\n\r\n").await.status, 400);
	let endless = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
	assert!((400..500).contains(&server.raw(endless.as_bytes()).await.status));
	assert_eq!(server.get("/v1/info").await.status, 200);
	server.stop().await;
}

#[tokio::test]
async fn no_more_connections_than_the_bound_are_served_at_a_time() {
	let server = Server::start(Fake::new()).await;
	let request = b"GET /v1/info HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
	let keep = b"GET /v1/info HTTP/1.1\r\nhost: x\r\n\r\n";
	let mut kept = Vec::new();
	for _ in 0..MAX_CONNECTIONS {
		let mut stream = server.connect().await;
		stream.write_all(keep).await.unwrap();
		let mut first = [0; 1];
		stream.read_exact(&mut first).await.unwrap();
		kept.push(stream);
	}
	let mut late = server.connect().await;
	late.write_all(request).await.unwrap();
	let mut answer = Vec::new();
	tokio::select! {
		biased;
		_ = late.read_to_end(&mut answer) => panic!("served beyond the bound"),
		// All tasks have had their turn many times over by then: what could be served has been.
		() = async { for _ in 0..1000 { tokio::task::yield_now().await } } => {},
	}
	assert_eq!(answer, b"");
	kept.pop();
	late.read_to_end(&mut answer).await.unwrap();
	assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
	drop(kept);
	server.stop().await;
}

/// Waits until the node has begun `n` requests.
async fn begun(server: &Server, n: usize) {
	while server.fake.done().iter().filter(|done| done.starts_with("begin")).count() < n {
		tokio::task::yield_now().await;
	}
}

const SEND: &str =
	"POST /v1/send HTTP/1.1\r\nhost: x\r\ncontent-length: 30\r\n\r\n{\"address\":\"a\",\"amount_sat\":7}";

#[tokio::test]
async fn a_payment_that_has_begun_is_finished_though_its_asker_hangs_up() {
	let server = Server::start(Fake { hold: Some(Notify::new()), ..Fake::new() }).await;
	let mut stream = server.connect().await;
	stream.write_all(SEND.as_bytes()).await.unwrap();
	begun(&server, 1).await;
	drop(stream);
	// Another request has been answered since: the hanging up has been noticed.
	assert_eq!(server.get("/v1/info").await.status, 200);
	server.fake.hold.as_ref().unwrap().notify_one();
	let fake = server.fake.clone();
	server.stop().await;
	assert!(fake.done()[1].starts_with("send"), "{:?}", fake.done());
}

#[tokio::test]
async fn a_stop_waits_for_what_is_at_work_and_answers_it() {
	let server = Server::start(Fake { hold: Some(Notify::new()), ..Fake::new() }).await;
	let mut stream = server.connect().await;
	stream.write_all(SEND.as_bytes()).await.unwrap();
	begun(&server, 1).await;
	server.stop.send(true).unwrap();
	for _ in 0..1000 {
		tokio::task::yield_now().await;
	}
	assert!(!server.task.is_finished());
	server.fake.hold.as_ref().unwrap().notify_one();
	let mut answer = String::new();
	stream.read_to_string(&mut answer).await.unwrap();
	assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(TXID), "{answer}");
	server.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_too_long_is_told_that_it_is_still_at_work() {
	let server = Server::start(Fake { hold: Some(Notify::new()), ..Fake::new() }).await;
	let answer = server.call("POST", "/v1/send", "{\"address\":\"a\",\"amount_sat\":7}").await;
	assert_eq!((answer.status, answer.problem().as_str()), (504, "still_at_work"));
	server.fake.hold.as_ref().unwrap().notify_one();
	server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
	let server = Server::start(Fake::new()).await;
	let head = "POST /v1/send HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 30\r\n\r\n{";
	let answer = server.raw(head.as_bytes()).await;
	assert_eq!((answer.status, answer.problem().as_str()), (408, "body_too_slow"));
	server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_is_not_waited_for() {
	let server = Server::start(Fake::new()).await;
	let mut stream = server.connect().await;
	stream.write_all(b"GET /v1/info HT").await.unwrap();
	let mut answer = Vec::new();
	stream.read_to_end(&mut answer).await.unwrap();
	assert!(!answer.starts_with(b"HTTP/1.1 200"));
	server.stop().await;
}

#[tokio::test]
async fn more_work_than_the_bound_is_refused() {
	let server = Server::start(Fake { hold: Some(Notify::new()), ..Fake::new() }).await;
	let mut streams = Vec::new();
	// Hung up, so that connections do not run out before work does.
	for n in 0..MAX_AT_WORK as usize {
		let mut stream = server.connect().await;
		stream.write_all(SEND.as_bytes()).await.unwrap();
		begun(&server, n + 1).await;
		if n > 0 {
			streams.push(stream);
		}
	}
	let answer = server.get("/v1/info").await;
	assert_eq!((answer.status, answer.problem().as_str()), (503, "busy"));
	for _ in 0..MAX_AT_WORK {
		server.fake.hold.as_ref().unwrap().notify_one();
		tokio::task::yield_now().await;
	}
	server.fake.hold.as_ref().unwrap().notify_waiters();
	drop(streams);
	server.stop().await;
}
