//! One notice from its turn to its end: what is tried again, and what is not.

use super::https::{Answer, Post};
use super::limits::Limits;
use super::queue::{End, Letter};
use super::stamp::{Clock, Sign, stamp};
use crate::crash;
use inlet_lsp::notice::Notice;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout_at};

/// What it takes to deliver.
pub struct Courier {
	/// The way out.
	pub post: Box<dyn Post>,
	/// Signs each attempt.
	pub sign: Sign,
	/// The time that is signed.
	pub clock: Clock,
	/// Time-outs and pauses.
	pub limits: Limits,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
	Over(End),
	/// To be tried again, not before this pause.
	Again(Duration),
}

/// Only 200 is success (L5-18). Tried again is only what did not arrive, and what the server asks for: a server in trouble
/// (5xx) or in haste (429). Whatever may have arrived, or will not be liked better the second time, is not.
fn verdict(answer: &Answer) -> Verdict {
	match answer {
		Answer::Status { code: 200, .. } => Verdict::Over(End::Sent),
		Answer::Status { code: 429 | 500..=599, retry_after } => Verdict::Again(retry_after.unwrap_or_default()),
		Answer::NoConnection(_) => Verdict::Again(Duration::ZERO),
		Answer::Status { .. } | Answer::NoTrust(_) | Answer::NoAnswer(_) => Verdict::Over(End::Failed),
		Answer::Refused(_) => Verdict::Over(End::Refused),
	}
}

impl Courier {
	/// Delivers, and says how it ended. Holds its turns while it sends, not while it pauses.
	pub async fn deliver(&self, letter: &Letter) -> End {
		let mut end = End::Dropped;
		let pauses = self.limits.pauses.iter().copied().map(Some).chain([None]);
		for pause in pauses {
			let Some(answer) = self.attempt(letter).await else { break };
			tracing::debug!(
				target: "inlet",
				client = %letter.lane.client,
				host = letter.lane.host(),
				notice = letter.notice.method(),
				"webhook called: {answer:?}"
			);
			match (verdict(&answer), pause) {
				(Verdict::Over(end), _) => {
					if letter.notice == Notice::PaymentIncoming {
						crash::reached("wake.told.done");
					}
					return end;
				}
				(Verdict::Again(_), None) => return End::Failed,
				(Verdict::Again(asked), Some(pause)) => {
					end = End::Failed;
					let pause = pause.max(asked.min(self.limits.longest_pause));
					if Instant::now() + pause >= letter.until {
						break;
					}
					sleep(pause).await;
				}
			}
		}
		end
	}

	/// One request, stamped and signed when its turn has come; `None` if the notice was of no use by then.
	async fn attempt(&self, letter: &Letter) -> Option<Answer> {
		let _turns = timeout_at(letter.until, turns(&letter.turns)).await.ok()?.ok()?;
		if Instant::now() >= letter.until {
			return None;
		}
		let message = stamp(&letter.notice, (self.clock)(), &self.sign);
		Some(self.post.post(&letter.lane.url, message).await)
	}
}

async fn turns(of: &[Arc<Semaphore>; 2]) -> Result<[SemaphorePermit<'_>; 2], AcquireError> {
	let [host, all] = of;
	Ok([host.acquire().await?, all.acquire().await?])
}
