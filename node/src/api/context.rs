//! How a handler asks the node.

use super::problem::Problem;
use super::{ANSWER_TIMEOUT, DRAIN_TIMEOUT, MAX_AT_WORK};
use crate::control::{Control, Refusal};
use axum::Json;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// What every handler gets.
#[derive(Clone)]
pub(super) struct Context {
	/// The node.
	pub control: Arc<dyn Control>,
	/// True once the node is to stop.
	pub stop: watch::Receiver<bool>,
	at_work: Arc<Semaphore>,
}

/// The answer of a handler.
pub(super) type Reply<T> = Result<Json<T>, Problem>;

impl Context {
	pub fn new(control: Arc<dyn Control>, stop: watch::Receiver<bool>) -> Context {
		Context { control, stop, at_work: Arc::new(Semaphore::new(MAX_AT_WORK as usize)) }
	}

	/// Asks the node, for as long as usual.
	pub async fn ask<T, F>(&self, question: impl FnOnce(Arc<dyn Control>) -> F) -> Reply<T>
	where
		T: Send + 'static,
		F: Future<Output = Result<T, Refusal>> + Send + 'static,
	{
		self.ask_for(ANSWER_TIMEOUT, question).await
	}

	/// Asks the node, and waits this long for the answer.
	///
	/// The question is a task of its own: whoever asked may hang up, or be told that it takes too long, but a payment that has
	/// begun is never dropped half-way.
	pub async fn ask_for<T, F>(&self, wait: Duration, question: impl FnOnce(Arc<dyn Control>) -> F) -> Reply<T>
	where
		T: Send + 'static,
		F: Future<Output = Result<T, Refusal>> + Send + 'static,
	{
		let Ok(permit) = self.at_work.clone().try_acquire_owned() else {
			let detail = format!("{MAX_AT_WORK} requests are already at work");
			return Err(Refusal::not_now("busy", detail, "try again in a moment").into());
		};
		let answer = question(self.control.clone());
		let task = tokio::spawn(async move {
			let _permit = permit;
			answer.await
		});
		match tokio::time::timeout(wait, task).await {
			Ok(Ok(Ok(answer))) => Ok(Json(answer)),
			Ok(Ok(Err(refusal))) => Err(refusal.into()),
			Ok(Err(_)) => Err(Refusal::internal("the request made a task panic").into()),
			Err(_) => {
				let detail = format!("no answer within {} s; the request is still at work", wait.as_secs());
				let hint =
					"look whether it was done (inlet events, inlet payments, inlet channels) before asking again";
				Err(Refusal::new(504, "still_at_work", detail, hint).into())
			}
		}
	}

	/// Returns when nothing is at work any more, or after a while.
	pub async fn drained(&self) {
		let all = self.at_work.acquire_many(MAX_AT_WORK);
		if tokio::time::timeout(DRAIN_TIMEOUT, all).await.is_err() {
			tracing::warn!("stopping while admin requests are still at work");
		}
	}
}
