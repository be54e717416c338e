//! `/metrics`: what the API says, as [Prometheus text](https://prometheus.io/docs/instrumenting/exposition_formats/).
//!
//! No metric has a label per client, channel or peer: how many there are must not depend on who connects.

use super::context::Context;
use super::problem::Problem;
use super::routes::{Endpoint, on};
use crate::control::{Backup, BackupTarget, Fees, HoldHistogram, HoldTimes, Status, Storage};
use axum::extract::State;
use axum::http::{Method, header};
use axum::response::IntoResponse;
use std::fmt::{Display, Write};

/// What the answer is.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn endpoints() -> Vec<Endpoint> {
	vec![on(Method::GET, "/metrics", metrics)]
}

async fn metrics(State(context): State<Context>) -> Result<impl IntoResponse, Problem> {
	let asked = context.ask(|node| async move {
		let (status, storage, fees) = (node.status().await?, node.storage().await?, node.fees().await?);
		Ok((status, storage, fees, node.holds().await?, node.backup().await?))
	});
	let (status, storage, fees, holds, backed_up) = asked.await?.0;
	let mut text = Text::default();
	node(&mut text, &status);
	store(&mut text, &status, &storage);
	feerates(&mut text, &fees);
	hold_times(&mut text, &holds);
	backup(&mut text, &backed_up);
	Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text.0))
}

/// Metrics, one after the other.
#[derive(Default)]
struct Text(String);

impl Text {
	/// Something that goes up and down.
	fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
		self.head(name, "gauge", help).sample(name, "", value);
	}

	/// Something that goes up until the node stops.
	fn counter(&mut self, name: &str, help: &str, value: impl Display) {
		self.head(name, "counter", help).sample(name, "", value);
	}

	/// How often it took how long, in seconds.
	fn histogram(&mut self, name: &str, help: &str, of: &HoldHistogram) {
		self.head(name, "histogram", help);
		let series = format!("{name}_bucket");
		for bucket in &of.buckets {
			self.sample(&series, &format!("le=\"{}\"", bucket.secs), bucket.count);
		}
		self.sample(&series, "le=\"+Inf\"", of.count);
		self.sample(&format!("{name}_sum"), "", format_args!("{}.{:03}", of.sum_ms / 1000, of.sum_ms % 1000));
		self.sample(&format!("{name}_count"), "", of.count);
	}

	fn head(&mut self, name: &str, kind: &str, help: &str) -> &mut Text {
		writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a String takes everything");
		self
	}

	/// One line; `labels` as they stand between the braces, of values that need no escape.
	fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
		let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
		writeln!(self.0, "{name}{labels} {value}").expect("a String takes everything");
	}
}

fn node(text: &mut Text, status: &Status) {
	let info = "inlet_info";
	let labels = format!("version=\"{}\",network=\"{}\"", status.version, status.network);
	text.head(info, "gauge", "Always 1; what runs.").sample(info, &labels, 1);
	text.counter("inlet_uptime_seconds", "Time since the start.", status.uptime_secs);
	text.gauge("inlet_synced", "1 if the chain view is current.", u8::from(status.synced));
	text.gauge("inlet_block_height", "The best block that is known.", status.block_height);
	let onchain = &status.onchain;
	text.gauge("inlet_onchain_free_sat", "Neither reserved for anchors nor for sales and orders.", onchain.free_sat);
	text.gauge("inlet_onchain_anchor_reserve_sat", "Kept for fee-bumping anchor channels.", onchain.anchor_reserve_sat);
	text.gauge("inlet_onchain_in_sales_sat", "Kept for unfinished sales and orders.", onchain.in_sales_sat);
	text.gauge("inlet_onchain_utxos", "Confirmed unspent outputs.", onchain.utxos);
	let channels = &status.channels;
	text.gauge("inlet_channels", "Channels that are not closed.", channels.total);
	text.gauge("inlet_channels_online", "Channels that are usable.", channels.online);
	text.gauge("inlet_channels_inbound_msat", "What could be received over all channels.", channels.inbound_msat);
	text.gauge("inlet_channels_outbound_msat", "What could be sent over all channels.", channels.outbound_msat);
	text.gauge("inlet_clients", "Clients that ever spoke to us.", status.clients.total);
	text.gauge("inlet_clients_connected", "Clients that are connected.", status.clients.connected);
	text.gauge("inlet_clients_waiting", "Sleeping clients with payments that wait.", status.clients.waiting);
	let today = &status.today;
	text.gauge("inlet_today_sold_jit", "Channels sold just in time since midnight UTC.", today.sold_jit);
	text.gauge("inlet_today_sold_ordered", "Channels sold on order since midnight UTC.", today.sold_ordered);
	text.gauge("inlet_today_forwards", "Payments forwarded since midnight UTC.", today.forwards);
	text.gauge("inlet_today_earned_msat", "Fees earned since midnight UTC.", today.earned_msat);
	text.gauge("inlet_today_spent_sat", "Miner fees spent since midnight UTC.", today.spent_sat);
	let attention = "inlet_attention";
	text.head(attention, "gauge", "1 for each thing that the operator should look at.");
	for thing in &status.attention {
		text.sample(attention, &format!("code=\"{}\"", thing.code), 1);
	}
}

fn store(text: &mut Text, status: &Status, storage: &Storage) {
	if let Some(free) = status.disk.free_bytes {
		text.gauge("inlet_disk_free_bytes", "Free where the data directory is.", free);
	}
	text.gauge("inlet_disk_low", "1 if so little is free that nothing new is sold.", u8::from(status.disk.low));
	text.gauge("inlet_disk_reserve_bytes", "The reserve; 0 if it is given up.", storage.reserve_bytes);
	text.gauge("inlet_disk_wear_ppm_a_year", "Millionths of the card's rated life.", storage.wear_ppm_a_year);
	text.counter("inlet_store_payments", "Payments that were forwarded or brought a channel.", storage.payments);
	text.counter("inlet_store_log_bytes", "Bytes written to the write-ahead log.", storage.log_bytes);
	text.counter("inlet_store_checkpoint_bytes", "Bytes copied from the log, at most.", storage.checkpoint_bytes);
	text.counter("inlet_store_syncs", "Syncs (fdatasync).", storage.syncs);
	text.counter("inlet_store_batches", "Transactions.", storage.batches);
	text.gauge("inlet_store_queued_bytes", "Bytes that wait to be written.", storage.queued_bytes);
	let updates = "inlet_channel_updates_waiting";
	text.gauge(updates, "Updates of channels that are not on the disk, or a backup, yet.", storage.updates_waiting);
	let (asked, recorded) = ("inlet_store_asked_bytes", "inlet_store_recorded_bytes");
	text.head(asked, "counter", "Bytes that the node asked to have written.");
	for purpose in &storage.purposes {
		text.sample(asked, &format!("purpose=\"{}\"", purpose.purpose), purpose.asked_bytes);
	}
	text.head(recorded, "counter", "Bytes that this came down to.");
	for purpose in &storage.purposes {
		text.sample(recorded, &format!("purpose=\"{}\"", purpose.purpose), purpose.recorded_bytes);
	}
}

fn backup(text: &mut Text, backup: &Backup) {
	if backup.targets.is_empty() {
		return;
	}
	let label = |name: &str| format!("target=\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
	let mut each = |name: &str, help: &str, value: fn(&BackupTarget) -> u64| {
		text.head(name, "gauge", help);
		for target in &backup.targets {
			text.sample(name, &label(&target.name), value(target));
		}
	};
	each("inlet_backup_lag_seconds", "For how long something has been missing there.", |target| target.lag_secs);
	each("inlet_backup_lag_changes", "Changes that are missing there.", |target| target.lag_changes);
	each("inlet_backup_behind", "1 if the operator should see to it.", |target| u64::from(target.behind));
	each("inlet_backup_bytes", "Bytes of the last snapshot and of what came since.", |target| {
		target.snapshot_bytes + target.increment_bytes
	});
}

fn hold_times(text: &mut Text, holds: &HoldTimes) {
	text.gauge("inlet_forwards_held", "Forwarded payments that are neither settled nor failed.", holds.now);
	text.gauge("inlet_forwards_held_oldest_seconds", "Since when the oldest of them is.", holds.oldest_secs);
	let forwarded = "Forwarded payments, by the time until they settled or failed.";
	text.histogram("inlet_forward_hold_seconds", forwarded, &holds.forwarded);
	let intercepted = "Payments that Inlet held, by the time until it forwarded or failed them.";
	text.histogram("inlet_intercept_hold_seconds", intercepted, &holds.intercepted);
}

fn feerates(text: &mut Text, fees: &Fees) {
	text.gauge("inlet_fees_fresh", "1 if the feerates are fresh enough to sell by.", u8::from(fees.fresh));
	let feerate = "inlet_feerate_sat_per_kw";
	text.head(feerate, "gauge", "Estimates, by purpose.");
	for estimate in &fees.estimates {
		text.sample(feerate, &format!("target=\"{}\"", estimate.target), estimate.sat_per_kw);
	}
}
