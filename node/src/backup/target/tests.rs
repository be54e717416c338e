//! What every target has to do, on a directory and on small servers of our own.

use super::{Target, TargetError, connect};
use crate::config::BackupPlace;
use crate::tor::Way;
use crate::tor::testing::{Socks, SocksPort};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A server that keeps objects by their path: a bucket of S3, and a folder of WebDAV.
#[derive(Clone, Default)]
struct Server {
	objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
	/// Answers this to everything, while it is set.
	broken: Arc<Mutex<Option<StatusCode>>>,
}

impl Server {
	async fn start() -> (Server, String) {
		let server = Server::default();
		let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
		let address = listener.local_addr().unwrap();
		let router = Router::new().fallback(answer).with_state(server.clone());
		tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
		(server, address.to_string())
	}
}

async fn answer(State(server): State<Server>, request: Request) -> Response<Body> {
	let say = |status: StatusCode, body: Vec<u8>| Response::builder().status(status).body(Body::from(body)).unwrap();
	let (parts, body) = request.into_parts();
	let body = to_bytes(body, 1 << 20).await.unwrap().to_vec();
	if let Some(status) = *server.broken.lock().unwrap() {
		return say(status, Vec::new());
	}
	let query = parts.uri.query().unwrap_or_default().to_owned();
	let signed = query.contains("X-Amz-Signature=") && query.contains("X-Amz-Credential=key%2F");
	let login = parts.headers.get("authorization").and_then(|v| v.to_str().ok()) == Some("Basic bWU6cGFzcw==");
	if !signed && !login {
		return say(StatusCode::FORBIDDEN, Vec::new());
	}
	let path = parts.uri.path().to_owned();
	let mut objects = server.objects.lock().unwrap();
	let found = objects.get(&path).cloned();
	match (parts.method.as_str(), found) {
		("GET", _) if query.contains("list-type=2") => say(StatusCode::OK, list_s3(&objects, &query)),
		("GET" | "HEAD", Some(bytes)) => {
			say(StatusCode::OK, if parts.method == Method::GET { bytes } else { Vec::new() })
		}
		("GET" | "HEAD", None) => say(StatusCode::NOT_FOUND, Vec::new()),
		("PUT", Some(_)) if parts.headers.get("if-none-match").is_some_and(|v| v == "*") => {
			say(StatusCode::PRECONDITION_FAILED, Vec::new())
		}
		("PUT", _) => {
			objects.insert(path, body);
			say(StatusCode::CREATED, Vec::new())
		}
		("DELETE", Some(_)) => {
			objects.remove(&path);
			say(StatusCode::NO_CONTENT, Vec::new())
		}
		("DELETE", None) => say(StatusCode::NOT_FOUND, Vec::new()),
		("MKCOL", _) => say(StatusCode::METHOD_NOT_ALLOWED, Vec::new()),
		("PROPFIND", _) => {
			let hrefs = objects.keys().map(|path| format!("<d:response><d:href>{path}</d:href></d:response>"));
			let xml = format!(r#"<d:multistatus xmlns:d="DAV:">{}</d:multistatus>"#, hrefs.collect::<String>());
			say(StatusCode::MULTI_STATUS, xml.into_bytes())
		}
		_ => say(StatusCode::METHOD_NOT_ALLOWED, Vec::new()),
	}
}

/// Two objects a page.
fn list_s3(objects: &BTreeMap<String, Vec<u8>>, query: &str) -> Vec<u8> {
	let token = query.split('&').find_map(|pair| pair.strip_prefix("continuation-token="));
	let from = token.map_or(0, |token| token.parse::<usize>().unwrap());
	let keys: Vec<&str> = objects.keys().map(|path| path.strip_prefix("/bucket/").unwrap()).collect();
	let page = keys.iter().skip(from).take(2).map(|key| {
		format!(
			"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag>\
			<Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
		)
	});
	let page: String = page.collect();
	let more = match from + 2 < keys.len() {
		true => format!("<NextContinuationToken>{}</NextContinuationToken>", from + 2),
		false => String::new(),
	};
	format!(
		r#"<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><MaxKeys>2</MaxKeys><EncodingType>url</EncodingType>{page}{more}</ListBucketResult>"#
	)
	.into_bytes()
}

async fn does_what_a_target_does(target: &dyn Target) {
	target.prepare().await.unwrap();
	target.prepare().await.unwrap();
	assert_eq!(target.read("inlet-backup").await.unwrap(), None);
	target.create("inlet-backup", b"mark").await.unwrap();
	assert_eq!(target.read("a").await.unwrap(), None);
	target.create("a", b"one").await.unwrap();
	assert!(matches!(target.create("a", b"two").await, Err(TargetError::Exists)));
	assert_eq!(target.read("a").await.unwrap().unwrap(), b"one", "what is there stays");
	target.replace("lease", b"1").await.unwrap();
	target.replace("lease", b"2").await.unwrap();
	assert_eq!(target.read("lease").await.unwrap().unwrap(), b"2");
	let large = vec![7; 300_000];
	target.create("large", &large).await.unwrap();
	assert_eq!(target.read("large").await.unwrap().unwrap(), large);
	for n in 0..4 {
		target.create(&format!("n{n}"), b"").await.unwrap();
	}
	let mut names = target.list().await.unwrap();
	names.sort();
	assert_eq!(names, ["a", "inlet-backup", "large", "lease", "n0", "n1", "n2", "n3"]);
	target.remove("a").await.unwrap();
	target.remove("a").await.unwrap();
	assert_eq!(target.read("a").await.unwrap(), None);
	target.create("a", b"three").await.unwrap();
}

#[tokio::test]
async fn a_directory_does() {
	let dir = tempfile::tempdir().unwrap();
	does_what_a_target_does(&*connect(&BackupPlace::Dir(dir.path().join("t")), Way::default()).unwrap()).await;
	let elsewhere = connect(&BackupPlace::Dir(dir.path().join("no/such")), Way::default()).unwrap();
	assert!(matches!(elsewhere.prepare().await, Err(TargetError::Away(_))));
}

#[tokio::test]
async fn a_bucket_does_and_its_secret_is_in_no_error() {
	let (server, address) = Server::start().await;
	let place =
		|key: &str| format!("s3:http://{key}:sec/ret@{address}/bucket/in/it?region=r").parse::<BackupPlace>().unwrap();
	let target = connect(&place("key"), Way::default()).unwrap();
	does_what_a_target_does(&*target).await;
	assert!(server.objects.lock().unwrap().keys().all(|path| path.starts_with("/bucket/in/it/")));
	assert!(
		matches!(connect(&place("other"), Way::default()).unwrap().read("a").await, Err(TargetError::Away(why)) if why.contains("login"))
	);
	fails(&server, &*target).await;
}

#[tokio::test]
async fn a_webdav_folder_does_and_its_password_is_in_no_error() {
	let (server, address) = Server::start().await;
	let place = |login: &str| format!("webdav:http://{login}@{address}/dav/b").parse::<BackupPlace>().unwrap();
	let target = connect(&place("me:pass"), Way::default()).unwrap();
	does_what_a_target_does(&*target).await;
	assert!(
		matches!(connect(&place("me:sec-ret"), Way::default()).unwrap().read("a").await, Err(TargetError::Away(why)) if why.contains("login"))
	);
	fails(&server, &*target).await;
}

/// Whatever is wrong is "away", never "there is no such object", and says no secret.
async fn fails(server: &Server, target: &dyn Target) {
	for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::INSUFFICIENT_STORAGE, StatusCode::MOVED_PERMANENTLY] {
		*server.broken.lock().unwrap() = Some(status);
		let said = [
			target.read("a").await.map(drop).unwrap_err(),
			target.list().await.map(drop).unwrap_err(),
			target.create("b", b"").await.unwrap_err(),
			target.replace("b", b"").await.unwrap_err(),
			target.remove("b").await.unwrap_err(),
		];
		for error in said {
			let TargetError::Away(why) = &error else { panic!("{error:?}") };
			assert!(!why.contains("ret") && !why.contains("pass") && !why.contains("Signature"), "{why}");
		}
	}
	*server.broken.lock().unwrap() = None;
}

#[tokio::test]
async fn a_target_on_the_network_is_reached_over_tor() {
	let port = SocksPort::new(Socks::No(4)).await;
	let places = ["webdav:https://me:pass@dav.example.org/b", "s3:http://K:S@abc.onion:9000/bucket?region=r"];
	for (place, only) in places.into_iter().zip([true, false]) {
		let target = connect(&place.parse().unwrap(), port.way(only)).unwrap();
		assert!(matches!(target.read("a").await, Err(TargetError::Away(_))));
	}
	let asked: Vec<(String, u16)> = port.asked().into_iter().map(|asked| (asked.host, asked.port)).collect();
	assert_eq!(asked, [("dav.example.org".to_owned(), 443), ("abc.onion".to_owned(), 9000)]);
}
