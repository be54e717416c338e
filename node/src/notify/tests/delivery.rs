//! One webhook: what it is sent, in which order, and what is tried again.

use super::{Bench, EPOCH_MS, client, signer, status};
use crate::notify::Counts;
use crate::notify::guard::Refused;
use crate::notify::https::Answer;
use crate::notify::limits::Limits;
use crate::notify::stamp::{signed_text, stamp};
use inlet_lsp::notice::Notice;
use lightning::util::message_signing::recover_pk;
use std::time::{Duration, SystemTime};

const HOOK: &str = "https://hook.example.com/a";

fn send(bench: &Bench, url: &str, notice: Notice) {
	bench.notifier.send(client(1), "app".into(), url.into(), notice);
}

fn all_notices() -> Vec<Notice> {
	vec![
		Notice::WebhookRegistered,
		Notice::PaymentIncoming,
		Notice::ExpirySoon { timeout: 800_000 },
		Notice::LiquidityManagementRequest,
		Notice::OnionMessageIncoming,
	]
}

#[test]
fn l5_17_the_signature_recovers_the_nodes_key_from_what_blip_55_signs() {
	for notice in all_notices() {
		let now = SystemTime::UNIX_EPOCH + Duration::from_millis(EPOCH_MS);
		let message = stamp(&notice, now, &signer());
		assert_eq!(message.timestamp, "2026-01-31T10:02:11.020Z");
		assert_eq!(message.body, notice.body());
		let text = format!(
			"LSPS5: DO NOT SIGN THIS MESSAGE MANUALLY: LSP: At {} I notify {}",
			message.timestamp, message.body
		);
		assert_eq!(recover_pk(text.as_bytes(), &message.signature).unwrap(), client(99));
		assert_eq!(message.signature.len(), 104, "zbase32 of 65 bytes");
	}
}

#[tokio::test(start_paused = true)]
async fn l5_15_a_webhook_hears_in_order_and_one_at_a_time() {
	let bench = Bench::new(Limits::default(), |_, n| match n {
		// The first is slow and fails once: the others wait for it all the same.
		0 => (Duration::from_secs(3), status(503)),
		_ => (Duration::from_secs(1), status(200)),
	});
	for notice in all_notices() {
		send(&bench, HOOK, notice);
	}
	bench.settled().await;
	let told: Vec<String> = bench.told().into_iter().map(|(_, method)| method).collect();
	let expected = [
		"webhook_registered",
		"webhook_registered",
		"payment_incoming",
		"expiry_soon",
		"liquidity_management_request",
		"onion_message_incoming",
	];
	assert_eq!(told, expected);
	assert_eq!(bench.most_at_once(), 1);
	assert_eq!(bench.notifier.counts(), Counts { sent: 5, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn l5_17_each_attempt_is_stamped_and_signed_anew() {
	let bench = Bench::answering(vec![status(500), status(502), status(200)]);
	send(&bench, HOOK, Notice::ExpirySoon { timeout: 7 });
	bench.settled().await;
	let made = bench.made();
	let stamps: Vec<&str> = made.iter().map(|m| m.message.timestamp.as_str()).collect();
	assert_eq!(stamps, ["2026-01-31T10:02:11.020Z", "2026-01-31T10:02:13.020Z", "2026-01-31T10:02:19.020Z"]);
	for m in &made {
		let text = signed_text(&m.message.timestamp, &m.message.body);
		assert_eq!(recover_pk(text.as_bytes(), &m.message.signature).unwrap(), client(99));
	}
	assert_eq!(bench.notifier.counts(), Counts { sent: 1, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn l5_18_only_what_may_be_retried_is_and_never_for_ever() {
	let lost = |what: &str| what.to_owned();
	let once = [200, 201, 204, 301, 302, 307, 308, 400, 401, 403, 404, 410, 418].map(status);
	let once = once.into_iter().chain([
		Answer::NoAnswer(lost("time-out")),
		Answer::NoTrust(lost("unknown issuer")),
		Answer::Refused(Refused::NotPublic),
	]);
	for answer in once {
		let bench = Bench::answering(vec![answer.clone()]);
		send(&bench, HOOK, Notice::LiquidityManagementRequest);
		bench.settled().await;
		assert_eq!(bench.made().len(), 1, "{answer:?}");
		let counts = bench.notifier.counts();
		let expected = match answer {
			Answer::Status { code: 200, .. } => Counts { sent: 1, ..Counts::default() },
			Answer::Refused(_) => Counts { refused: 1, ..Counts::default() },
			_ => Counts { failed: 1, ..Counts::default() },
		};
		assert_eq!(counts, expected, "{answer:?}");
	}
	let again = [429, 500, 502, 503, 504, 599].map(status).into_iter().chain([Answer::NoConnection(lost("refused"))]);
	for answer in again {
		let bench = Bench::answering(vec![answer.clone()]);
		send(&bench, HOOK, Notice::LiquidityManagementRequest);
		bench.settled().await;
		let at: Vec<u64> = bench.made().iter().map(|m| m.at.as_secs()).collect();
		assert_eq!(at, [0, 2, 8, 26], "{answer:?}");
		assert_eq!(bench.notifier.counts(), Counts { failed: 1, ..Counts::default() }, "{answer:?}");
	}
}

#[tokio::test(start_paused = true)]
async fn l5_18_a_server_in_haste_is_given_the_time_it_asks_for_within_a_bound() {
	for (asked, expected) in [(1, [0, 2, 8, 26]), (5, [0, 5, 11, 29]), (86_400, [0, 60, 120, 180])] {
		let bench = Bench::answering(vec![Answer::Status { code: 429, retry_after: Some(Duration::from_secs(asked)) }]);
		send(&bench, HOOK, Notice::ExpirySoon { timeout: 1 });
		bench.settled().await;
		let at: Vec<u64> = bench.made().iter().map(|m| m.at.as_secs()).collect();
		assert_eq!(at, expected, "{asked}");
	}
}

#[tokio::test(start_paused = true)]
async fn l5_23_a_payment_that_is_no_longer_held_wakes_nobody() {
	let limits = Limits { life_of_payment: Duration::from_secs(7), ..Limits::default() };
	let bench = Bench::new(limits.clone(), |_, _| (Duration::ZERO, status(500)));
	send(&bench, HOOK, Notice::PaymentIncoming);
	bench.settled().await;
	let at: Vec<u64> = bench.made().iter().map(|m| m.at.as_secs()).collect();
	assert_eq!(at, [0, 2], "the next would be at 8");
	assert_eq!(bench.notifier.counts(), Counts { failed: 1, ..Counts::default() });

	// Its turn comes too late: it is never tried.
	let bench = Bench::new(limits, |_, n| (Duration::from_secs(if n == 0 { 8 } else { 0 }), status(200)));
	send(&bench, HOOK, Notice::ExpirySoon { timeout: 1 });
	send(&bench, HOOK, Notice::PaymentIncoming);
	send(&bench, HOOK, Notice::LiquidityManagementRequest);
	bench.settled().await;
	let told: Vec<String> = bench.told().into_iter().map(|(_, method)| method).collect();
	assert_eq!(told, ["expiry_soon", "liquidity_management_request"]);
	assert_eq!(bench.notifier.counts(), Counts { sent: 2, dropped: 1, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn l5_20_the_same_news_waits_once_and_with_the_earliest_expiry() {
	let bench = Bench::new(Limits::default(), |_, _| (Duration::from_secs(1), status(200)));
	send(&bench, HOOK, Notice::WebhookRegistered);
	for timeout in [900, 800, 850] {
		send(&bench, HOOK, Notice::PaymentIncoming);
		send(&bench, HOOK, Notice::ExpirySoon { timeout });
	}
	bench.notifier.send(client(1), "another app".into(), HOOK.into(), Notice::PaymentIncoming);
	bench.notifier.send(client(2), "app".into(), HOOK.into(), Notice::PaymentIncoming);
	bench.settled().await;
	let told: Vec<String> = bench.told().into_iter().map(|(_, method)| method).collect();
	assert_eq!(told.iter().filter(|m| *m == "payment_incoming").count(), 3);
	assert_eq!(told.iter().filter(|m| *m == "expiry_soon").count(), 1);
	assert!(bench.made().iter().any(|m| m.message.body.contains(r#""timeout":800"#)));
	assert_eq!(bench.notifier.counts(), Counts { sent: 5, merged: 4, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn l5_15_a_webhook_that_was_replaced_hears_nothing_more() {
	let bench = Bench::new(Limits::default(), |_, _| (Duration::from_secs(1), status(200)));
	let (old, new) = ("https://hook.example.com/old", "https://hook.example.com/new");
	send(&bench, old, Notice::WebhookRegistered);
	// On its way before the webhook is replaced.
	tokio::time::sleep(Duration::from_millis(1)).await;
	send(&bench, old, Notice::PaymentIncoming);
	bench.notifier.send(client(1), "another app".into(), old.into(), Notice::ExpirySoon { timeout: 1 });
	send(&bench, new, Notice::WebhookRegistered);
	send(&bench, new, Notice::PaymentIncoming);
	bench.settled().await;
	let told = bench.told();
	let of = |path: &str| told.iter().filter(|(p, _)| p == path).map(|(_, m)| m.as_str()).collect::<Vec<_>>();
	assert_eq!(of("/old"), ["webhook_registered", "expiry_soon"]);
	assert_eq!(of("/new"), ["webhook_registered", "payment_incoming"]);
	assert_eq!(bench.notifier.counts(), Counts { sent: 4, dropped: 1, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn r14_l5_23_a_url_that_is_refused_is_counted_and_never_called() {
	let bench = Bench::answering(vec![status(200)]);
	for url in ["https://127.0.0.1/", "https://user@example.com/", "http://example.com/", "https://[::1]/", "nonsense"]
	{
		send(&bench, url, Notice::PaymentIncoming);
	}
	bench.settled().await;
	assert!(bench.made().is_empty());
	assert_eq!(bench.notifier.counts(), Counts { refused: 5, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn l5_23_the_stop_cuts_off_what_is_on_its_way_and_drops_what_comes() {
	let bench = Bench::new(Limits::default(), |_, _| (Duration::from_secs(86_400), status(200)));
	send(&bench, HOOK, Notice::WebhookRegistered);
	send(&bench, HOOK, Notice::PaymentIncoming);
	tokio::time::sleep(Duration::from_millis(1)).await;
	let before = tokio::time::Instant::now();
	bench.stop.send_replace(true);
	bench.running.await.unwrap();
	assert!(before.elapsed() < Duration::from_secs(1));
	bench.notifier.send(client(3), "app".into(), HOOK.into(), Notice::PaymentIncoming);
	assert_eq!(bench.notifier.counts(), Counts { dropped: 1, ..Counts::default() });
	assert_eq!(bench.network.made.lock().unwrap().len(), 1);
}
