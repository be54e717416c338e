//! `/metrics` and the socket for reading.

use super::*;
use std::collections::BTreeMap;

/// Each sample by name and labels; checks what the text format demands on the way.
fn samples(text: &str) -> BTreeMap<String, f64> {
	let (mut typed, mut found) = (BTreeMap::new(), BTreeMap::new());
	for line in text.lines() {
		if let Some(rest) = line.strip_prefix("# TYPE ") {
			let (name, kind) = rest.split_once(' ').unwrap();
			assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
			assert!(typed.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
		} else if !line.starts_with("# HELP ") {
			let (series, value) = line.rsplit_once(' ').unwrap();
			let name = series.split('{').next().unwrap();
			let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
			assert!(typed.contains_key(name) || typed.contains_key(family), "{name} has no type");
			assert!(found.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} is there twice");
		}
	}
	found
}

#[tokio::test]
async fn metrics_say_what_the_api_says() {
	let server = Server::start(Fake::new()).await;
	let answer = server.get("/metrics").await;
	assert_eq!(answer.status, 200);
	assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
	let samples = samples(&answer.body);
	let status = server.get("/v1/status").await.json();
	let storage = server.get("/v1/storage").await.json();
	assert_eq!(samples["inlet_block_height"], status["block_height"].as_f64().unwrap());
	assert_eq!(samples["inlet_onchain_free_sat"], status["onchain"]["free_sat"].as_f64().unwrap());
	assert_eq!(samples["inlet_store_syncs"], storage["syncs"].as_f64().unwrap());
	assert_eq!(samples["inlet_backup_lag_changes{target=\"s3:https://s3.example.com/backups\"}"], 40.0);
	let holds = server.get("/v1/holds").await.json();
	assert_eq!(samples["inlet_forward_hold_seconds_bucket{le=\"60\"}"], 40.0);
	assert_eq!(samples["inlet_forward_hold_seconds_bucket{le=\"+Inf\"}"], samples["inlet_forward_hold_seconds_count"]);
	assert_eq!(samples["inlet_forward_hold_seconds_sum"] * 1000.0, holds["forwarded"]["sum_ms"].as_f64().unwrap());
	for thing in status["attention"].as_array().unwrap() {
		assert_eq!(samples[&format!("inlet_attention{{code={}}}", thing["code"])], 1.0);
	}
	server.stop().await;
}

#[tokio::test]
async fn the_socket_for_reading_changes_nothing() {
	let dir = tempfile::tempdir().unwrap();
	let path = dir.path().join(SOCKET_NAME);
	let fake = Arc::new(Fake::new());
	let (stop, stopped) = watch::channel(false);
	let admin = Admin::bind(&path).await.unwrap().reads_only();
	let task = tokio::spawn(admin.serve(fake.clone(), stopped));
	let server = Server { dir, fake, stop, task };
	assert_eq!(server.get("/v1/status").await.status, 200);
	assert_eq!(server.get("/metrics").await.status, 200);
	for endpoint in crate::api::routes::endpoints().iter().filter(|e| e.method != axum::http::Method::GET) {
		let path = endpoint.path.replace("{id}", "a41e");
		let answer = server.call(endpoint.method.as_str(), &path, "{}").await;
		assert!(matches!(answer.status, 404 | 405), "{} {path}: {}", endpoint.method, answer.status);
	}
	server.stop().await;
}
