//! What happens: the newest events as a list, or a stream of server-sent events.

use super::context::Context;
use super::extract::{Args, list};
use super::problem::Problem;
use super::routes::{Endpoint, on};
use crate::control::{Event, Page, Refusal};
use crate::stop::stopped;
use axum::Json;
use axum::extract::State;
use axum::http::Method;
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use tokio::sync::{broadcast, watch};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventArgs {
	/// A stream, which does not end.
	#[serde(default)]
	follow: bool,
	/// With `follow`: begin after the event with this id, if it is still kept. `Last-Event-ID` says the same.
	since: Option<u64>,
	limit: Option<usize>,
	cursor: Option<String>,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
	vec![on(Method::GET, "/v1/events", events)]
}

async fn events(
	State(context): State<Context>,
	headers: HeaderMap,
	Args(args): Args<EventArgs>,
) -> Result<Response, Problem> {
	let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
	let follow = args.follow || text(header::ACCEPT).is_some_and(|accept| accept.contains("text/event-stream"));
	if !follow {
		if args.since.is_some() {
			let hint = "add follow=true, or use cursor";
			return Err(Refusal::invalid("since_without_follow", "since is for the stream only", hint).into());
		}
		let list = list(args.limit, args.cursor)?;
		let page = Page::descending(context.control.recent_events(), &list, |event| format!("{:020}", event.id));
		return Ok(Json(page).into_response());
	}
	let since = args.since.or_else(|| headers.get("last-event-id")?.to_str().ok()?.parse().ok());
	// Subscribed first: what happens in between is then in both, and dropped by its id.
	let live = context.control.events();
	let waiting = match since {
		Some(since) => context.control.recent_events().into_iter().filter(|event| event.id > since).collect(),
		None => VecDeque::new(),
	};
	let follower = Follower { live, waiting, last: since.unwrap_or(0), stop: context.stop };
	Ok(Sse::new(follower.into_stream()).keep_alive(KeepAlive::default()).into_response())
}

struct Follower {
	live: broadcast::Receiver<Event>,
	waiting: VecDeque<Event>,
	last: u64,
	stop: watch::Receiver<bool>,
}

impl Follower {
	fn into_stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
		stream::unfold(self, |mut follower| async move {
			let event = follower.next().await?;
			Some((Ok(event), follower))
		})
	}

	/// The next event; `None` when the node stops, once everything before that was sent.
	async fn next(&mut self) -> Option<sse::Event> {
		loop {
			if let Some(event) = self.waiting.pop_front() {
				self.last = event.id;
				return Some(to_sse(&event));
			}
			let next = tokio::select! {
				biased;
				next = self.live.recv() => next,
				_ = stopped(&mut self.stop) => return None,
			};
			match next {
				Ok(event) if event.id > self.last => self.waiting.push_back(event),
				Ok(_) => {}
				Err(broadcast::error::RecvError::Lagged(missed)) => {
					return Some(sse::Event::default().event("lagged").data(format!("{{\"missed\":{missed}}}")));
				}
				Err(broadcast::error::RecvError::Closed) => return None,
			}
		}
	}
}

fn to_sse(event: &Event) -> sse::Event {
	let data = serde_json::to_string(event).expect("an event is JSON");
	sse::Event::default().id(event.id.to_string()).event(event.kind.as_str()).data(data)
}
