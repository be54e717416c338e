//! Events, as a list and as a stream.

use super::*;
use crate::control::EventKind;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};

async fn follow(server: &Server, query: &str, header: &str) -> Lines<BufReader<UnixStream>> {
	let mut stream = server.connect().await;
	let head = format!("GET /v1/events{query} HTTP/1.1\r\nhost: x\r\n{header}\r\n");
	stream.write_all(head.as_bytes()).await.unwrap();
	let mut lines = BufReader::new(stream).lines();
	assert_eq!(lines.next_line().await.unwrap().unwrap(), "HTTP/1.1 200 OK");
	let mut head = String::new();
	loop {
		let line = lines.next_line().await.unwrap().unwrap();
		if line.is_empty() {
			break;
		}
		head += &line.to_lowercase();
	}
	assert!(head.contains("content-type: text/event-stream"), "{head}");
	lines
}

/// The three lines of the next event: its id, kind and data.
async fn next(lines: &mut Lines<BufReader<UnixStream>>) -> (String, String, Value) {
	let mut field = async |name: &str| loop {
		let line = lines.next_line().await.unwrap().expect("the stream goes on");
		if let Some(value) = line.strip_prefix(name) {
			return value.to_owned();
		}
	};
	let (id, kind) = (field("id: ").await, field("event: ").await);
	(id, kind, serde_json::from_str(&field("data: ").await).unwrap())
}

#[tokio::test]
async fn the_list_is_newest_first_and_paged() {
	let server = Server::start(Fake::new()).await;
	let page = server.get("/v1/events?limit=1").await.json();
	assert_eq!(page["events"][0]["kind"], "sale");
	assert_eq!(page["events"][0]["time"], "2026-01-31T10:02:38.201Z");
	let next = page["next"].as_str().unwrap();
	let page = server.get(&format!("/v1/events?limit=1&cursor={next}")).await.json();
	assert_eq!((&page["events"][0]["kind"], &page["next"]), (&json!("started"), &Value::Null));
	server.stop().await;
}

#[tokio::test]
async fn the_stream_says_what_happens_and_ends_with_the_node() {
	let server = Server::start(Fake::new()).await;
	let mut lines = follow(&server, "?follow=true", "").await;
	server.fake.bus.publish(T1, EventKind::Warning, None, "a\nb", json!({ "x": 1 }));
	let (id, kind, data) = next(&mut lines).await;
	assert_eq!(kind, "warning");
	assert_eq!(id, data["id"].to_string());
	assert_eq!((&data["text"], &data["data"]["x"]), (&json!("a\nb"), &json!(1)));
	server.stop.send(true).unwrap();
	while lines.next_line().await.unwrap().is_some() {}
	server.task.await.unwrap();
}

#[tokio::test]
async fn whoever_comes_back_misses_nothing() {
	let server = Server::start(Fake::new()).await;
	let first = server.fake.bus.recent()[0].id;
	for (query, header) in [
		(format!("?follow=true&since={first}"), String::new()),
		("?follow=true".to_owned(), format!("last-event-id: {first}\r\n")),
		(String::new(), format!("accept: text/event-stream\r\nlast-event-id: {first}\r\n")),
	] {
		let mut lines = follow(&server, &query, &header).await;
		assert_eq!(next(&mut lines).await.2["kind"], "sale", "{query} {header}");
		server.fake.bus.publish(T1, EventKind::Synced, None, "synced", json!({}));
		assert_eq!(next(&mut lines).await.2["kind"], "synced");
		// The next round begins after the same event, and must find the list as it was.
		let kept = server.fake.bus.recent();
		assert_eq!(kept[1].kind, EventKind::Sale);
	}
	server.stop().await;
}

#[tokio::test]
async fn whoever_is_too_slow_is_told() {
	let server = Server::start(Fake::new()).await;
	let mut lines = follow(&server, "?follow=true", "").await;
	let text = "x".repeat(4096);
	for _ in 0..crate::control::EVENTS_KEPT * 4 {
		server.fake.bus.publish(T1, EventKind::Forward, None, text.clone(), json!({}));
	}
	loop {
		let line = lines.next_line().await.unwrap().expect("the stream goes on");
		if line == "event: lagged" {
			break;
		}
	}
	assert!(lines.next_line().await.unwrap().unwrap().starts_with("data: {\"missed\":"));
	drop(lines);
	server.stop().await;
}

#[tokio::test]
async fn ids_grow_and_the_oldest_are_forgotten() {
	let fake = Fake::new();
	for _ in 0..crate::control::EVENTS_KEPT {
		fake.bus.publish(T0, EventKind::Synced, None, "", json!({}));
	}
	let kept = fake.bus.recent();
	assert_eq!(kept.len(), crate::control::EVENTS_KEPT);
	assert!(kept.windows(2).all(|pair| pair[0].id < pair[1].id));
	assert!(kept.iter().all(|event| event.kind == EventKind::Synced));
}
