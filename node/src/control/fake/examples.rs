//! One example of everything that the API says, every optional field filled in.

use crate::control::*;

/// 2026-01-31T10:02:11.020Z
pub(crate) const T0: Time = Time(1_769_853_731_020);
/// 27 s later.
pub(crate) const T1: Time = Time(1_769_853_758_201);
pub(crate) const NODE: &str = "02f3a1b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6091ac";
pub(crate) const CLIENT: &str = "03ab15c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f607177e0";
pub(crate) const CHANNEL: &str = "9c1e2f3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6";
pub(crate) const CHANNEL_2: &str = "a41e2f3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6";
pub(crate) const TXID: &str = "5d2e9f3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6";
pub(crate) const HASH: &str = "71c0de3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6";
pub(crate) const ADDRESS: &str = "bcrt1p8wpt9v4frpf3tkn0srd97pksgsxc5hs52lafxwru9kgeephvs7rqjeprhg";
pub(crate) const SALE: &str = "s_7Q2MC0FFEE12";
pub(crate) const ORDER: &str = "6e7f4b1a-9a53-4c1e-8d1b-0a6f2f1c9d11";

fn s(text: &str) -> String {
	text.to_owned()
}

pub(crate) fn status() -> Status {
	Status {
		version: s("0.1.0"),
		network: s("bitcoin"),
		node_id: s(NODE),
		uptime_secs: 12 * 86_400 + 7_200,
		synced: true,
		block_height: 871_203,
		looked_at: Some(T0),
		onchain: OnchainStatus {
			free_sat: 1_204_311,
			anchor_reserve_sat: 250_000,
			anchor_channels: 41,
			utxos: 12,
			reserve_ok: true,
			in_sales_sat: 90_000,
			open_sales: 2,
		},
		channels: ChannelsStatus { total: 47, online: 45, inbound_msat: 3_410_222_000, outbound_msat: 5_020_118_999 },
		today: TodayStatus { sold_jit: 16, sold_ordered: 2, forwards: 412, earned_msat: 14_220_000, spent_sat: 3_011 },
		clients: ClientsStatus { total: 39, connected: 36, waiting: 3, oldest_wait_secs: Some(12) },
		disk: DiskStatus {
			written_bytes: 41_000_000,
			syncs: 1_812,
			free_bytes: Some(12_400_000_000),
			today_bytes: 41_000_000,
			card_bytes: 32_000_000_000,
			wear_ppm_a_year: 9_353,
			low: false,
		},
		attention: vec![Attention {
			code: s("feerate_above_ceiling"),
			text: s("feerate 61 sat/vB is above your ceiling of 50: sales paused since 09:12"),
			command: s("inlet fees"),
		}],
	}
}

pub(crate) fn info() -> Info {
	Info {
		version: s("0.1.0"),
		network: s("regtest"),
		node_id: s(NODE),
		alias: s("inlet"),
		color: s("#ff9900"),
		listening: vec![s("127.0.0.1:9735")],
		announced: vec![s("203.0.113.7:9735")],
		block_height: 871_203,
		block_hash: s(HASH),
		synced: true,
		peers: 3,
		channels: 2,
		selling: vec![s("LSPS1"), s("LSPS2")],
		gossip: s("p2p"),
		data_dir: s("/home/pi/.inlet/regtest"),
		started_at: T0,
	}
}

pub(crate) fn sync() -> SyncState {
	SyncState {
		backend: s("esplora"),
		source: s("https://mempool.space/signet/api"),
		synced: true,
		block_height: 871_203,
		block_hash: s(HASH),
		looked_at: Some(T0),
		last_error: Some(s("connection refused")),
	}
}

pub(crate) fn fees() -> Fees {
	let estimate = |target: &str, sat_per_kw| FeeEstimate { target: s(target), sat_per_kw };
	Fees {
		fetched_at: Some(T0),
		age_secs: Some(38),
		fresh: true,
		estimates: vec![estimate("urgent_on_chain_sweep", 2_125), estimate("channel_close_minimum", 253)],
	}
}

pub(crate) fn storage() -> Storage {
	let purpose = |purpose: &str, asked_bytes, recorded_bytes| StoragePurpose {
		purpose: s(purpose),
		asked_bytes,
		recorded_bytes,
	};
	Storage {
		uptime_secs: 43_200,
		written_bytes: 41_000_000,
		log_bytes: 24_000_000,
		checkpoint_bytes: 17_000_000,
		syncs: 1_812,
		batches: 1_800,
		checkpoints: 4,
		queued_bytes: 0,
		queued_bytes_peak: 95_507,
		updates_waiting: 0,
		bytes_per_day: 82_000_000,
		payments: 1_366,
		bytes_per_payment: Some(30_014),
		card_bytes: 32_000_000_000,
		rated_bytes: 3_200_000_000_000,
		wear_ppm_a_year: 9_353,
		free_bytes: Some(12_400_000_000),
		low_water_bytes: 256_000_000,
		reserve_bytes: 32_000_000,
		purposes: vec![purpose("manager", 611_000_000, 9_100_000), purpose("monitors", 12_000_000, 8_000_000)],
	}
}

pub(crate) fn backup() -> Backup {
	Backup {
		mode: s("sync"),
		targets: vec![
			BackupTarget {
				name: s("dir:/mnt/usb/inlet"),
				waited_for: true,
				state: s("complete"),
				behind: false,
				lag_secs: 0,
				lag_changes: 0,
				lag_bytes: 0,
				snapshot_at: Some(T0),
				snapshot_bytes: 2_100_000,
				increments: 812,
				increment_bytes: 3_400_000,
				error: None,
			},
			BackupTarget {
				name: s("s3:https://s3.example.com/backups"),
				waited_for: false,
				state: s("away"),
				behind: true,
				lag_secs: 95,
				lag_changes: 40,
				lag_bytes: 61_000,
				snapshot_at: Some(T0),
				snapshot_bytes: 2_100_000,
				increments: 790,
				increment_bytes: 3_300_000,
				error: Some(s("the backup target s3:https://s3.example.com/backups cannot be reached: it answers 503")),
			},
		],
	}
}

pub(crate) fn doctor() -> Doctor {
	let check = |name: &str, verdict, text: &str, advice: Option<&str>| DoctorCheck {
		name: s(name),
		verdict,
		text: s(text),
		advice: advice.map(s),
	};
	let low = "200 MB are free, less than the low-water mark of 256 MB";
	Doctor {
		running: true,
		verdict: Health::Warn,
		checks: vec![
			check("seed", Health::Ok, "24 words with a right checksum, readable by their owner only", None),
			check("disk", Health::Warn, low, Some("free space on the disk: nothing new is sold")),
		],
	}
}

pub(crate) fn balance() -> Balance {
	Balance {
		onchain: OnchainBalance {
			confirmed_sat: 1_544_311,
			trusted_pending_sat: 10_000,
			untrusted_pending_sat: 250_000,
			immature_sat: 0,
			anchor_reserve_sat: 250_000,
			in_sales_sat: 90_000,
			free_sat: 1_204_311,
		},
		lightning: LightningBalance {
			local_msat: 5_120_118_999,
			outbound_msat: 5_020_118_999,
			inbound_msat: 3_410_222_000,
			closing_sat: 20_000,
			splicing_sat: 0,
		},
		total_sat: 6_944_429,
	}
}

pub(crate) fn sent(request: &SendRequest) -> Sent {
	Sent {
		txid: (!request.dry_run).then(|| s(TXID)),
		address: request.address.clone(),
		amount_sat: request.amount_sat.unwrap_or(1_203_911),
		fee_sat: 400,
		feerate_sat_per_kw: request.feerate_sat_per_kw.unwrap_or(500),
		dry_run: request.dry_run,
		queued: false,
	}
}

pub(crate) fn utxos() -> Vec<Utxo> {
	vec![Utxo { outpoint: format!("{TXID}:1"), amount_sat: 1_544_311, address: s(ADDRESS), confirmations: 144 }]
}

pub(crate) fn peers() -> Vec<Peer> {
	vec![
		Peer {
			node_id: s(CLIENT),
			address: Some(s("127.0.0.1:19735")),
			connected: true,
			inbound: true,
			persistent: false,
			channels: 1,
		},
		Peer {
			node_id: s("03cd15c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f607177e0"),
			address: None,
			connected: false,
			inbound: false,
			persistent: true,
			channels: 1,
		},
	]
}

pub(crate) fn channels() -> Vec<Channel> {
	let sold = Channel {
		id: s(CHANNEL),
		peer: s(CLIENT),
		state: ChannelState::Ready,
		funding: Some(format!("{TXID}:0")),
		short_channel_id: Some(s("871190x3x0")),
		capacity_sat: 310_000,
		local_msat: 60_000_000,
		outbound_msat: 56_900_000,
		inbound_msat: 246_900_000,
		announced: false,
		outbound: true,
		confirmations: 14,
		confirmations_required: Some(0),
		fee_base_msat: 1_000,
		fee_ppm: 100,
		cltv_expiry_delta: 72,
		sold_as: Some(s(SALE)),
		lease_until_height: Some(875_510),
	};
	let own = Channel {
		id: s(CHANNEL_2),
		state: ChannelState::Offline,
		announced: true,
		sold_as: None,
		lease_until_height: None,
		..sold.clone()
	};
	vec![sold, own]
}

pub(crate) fn opening(request: &OpenChannelRequest) -> Opening {
	Opening {
		peer: request.node_id.clone(),
		temporary_id: s(HASH),
		user_channel_id: s("340282366920938463463374607431768211455"),
		capacity_sat: request.capacity_sat,
	}
}

pub(crate) fn invoice(request: &InvoiceRequest) -> Invoice {
	Invoice {
		invoice: s("lnbcrt2500u1example"),
		payment_hash: s(HASH),
		amount_msat: request.amount_msat,
		description: request.description.clone(),
		expires_at: T1,
	}
}

pub(crate) fn offer(request: &OfferRequest) -> Offer {
	Offer {
		offer: s("lno1example"),
		id: s(HASH),
		amount_msat: request.amount_msat,
		description: request.description.clone(),
		expires_at: request.expiry_secs.map(|_| T1),
	}
}

pub(crate) fn payment(n: u32) -> Payment {
	Payment {
		id: format!("{n:08x}{}", &HASH[8..]),
		direction: Direction::Out,
		kind: PaymentKind::Bolt11,
		status: PaymentStatus::Succeeded,
		amount_msat: Some(250_000_000),
		fee_msat: Some(1_234),
		payment_hash: Some(s(HASH)),
		preimage: Some(s(TXID)),
		to: Some(s(CLIENT)),
		description: Some(s("coffee")),
		reason: Some(s("no route")),
		created_at: T0,
		expires_at: None,
		finished_at: Some(T1),
	}
}

fn sold_channel() -> SoldChannel {
	SoldChannel {
		capacity_sat: 310_000,
		id: Some(s(CHANNEL)),
		funding: Some(format!("{TXID}:0")),
		funded_at: Some(T1),
		ready_at: Some(T1),
		closed_at: Some(T1),
		keep_until_height: 875_510,
	}
}

pub(crate) fn sale() -> SaleDetail {
	let line = |at, step: &str, text: &str| HistoryLine { at, step: s(step), text: s(text) };
	SaleDetail {
		sale: Sale {
			id: s(SALE),
			client: s(CLIENT),
			status: SaleStatus::Done,
			reason: None,
			payment_msat: Some(250_000_000),
			fee_msat: Some(2_200_000),
			cost_sat: Some(360),
			reserved_sat: 0,
			channel: Some(sold_channel()),
			created_at: T0,
			updated_at: T1,
		},
		scid: s("16777215x3x1"),
		terms: SaleTerms {
			min_fee_msat: 1_200_000,
			proportional_ppm: 4_000,
			valid_until: T1,
			min_lifetime_blocks: 4_320,
			min_payment_msat: 5_000_000,
			max_payment_msat: 2_000_000_000,
		},
		parts: vec![HeldPart { payment_hash: s(HASH), amount_msat: 125_000_000, arrived_at: T1 }],
		history: vec![
			line(T0, "buy", "250,000 sat expected; fee 2,200 sat"),
			line(T1, "open", "310,000 sat (not broadcast: new client)"),
		],
	}
}

pub(crate) fn order() -> OrderDetail {
	OrderDetail {
		order: Order {
			id: s(ORDER),
			client: s(CLIENT),
			status: OrderStatus::Refunding,
			reason: Some(s("the client did not come back in time")),
			lsp_balance_sat: 1_000_000,
			client_balance_sat: 50_000,
			fee_sat: 6_200,
			total_sat: 56_200,
			paid_by: Some(s("onchain")),
			reserved_sat: 1_051_000,
			channel: Some(sold_channel()),
			created_at: T0,
			expires_at: T1,
			updated_at: T1,
		},
		channel_expiry_blocks: 4_320,
		funding_confirms_within_blocks: 6,
		required_channel_confirmations: 0,
		announce_channel: false,
		token: Some(s("friends")),
		invoice: Some(s("lnbcrt562u1example")),
		invoice_state: Some(s("EXPECT_PAYMENT")),
		address: Some(s(ADDRESS)),
		address_state: Some(s("PAID")),
		received: vec![OrderReceived { outpoint: format!("{TXID}:1"), amount_sat: 56_200, confirmations: 2 }],
		refund_address: Some(s(ADDRESS)),
		refund_sat: Some(56_200),
		refund_txid: Some(s(TXID)),
		history: vec![HistoryLine { at: T0, step: s("order"), text: s("1,050,000 sat for 6,200 sat") }],
	}
}

pub(crate) fn client() -> Client {
	Client {
		node_id: s(CLIENT),
		connected: true,
		first_seen: T0,
		channels: 1,
		capacity_sat: 310_000,
		local_msat: 60_000_000,
		sales_done: 1,
		orders_done: 0,
		unfinished: 1,
		offences: 0,
		holds: ClientHolds {
			now: 1,
			oldest_secs: 12,
			forwarded: HoldSummary { count: 41, p50_ms: Some(5_000), max_ms: Some(190_000) },
			intercepted: HoldSummary { count: 1, p50_ms: Some(740), max_ms: Some(740) },
		},
		tier: s("known"),
		score: 54,
		listed: None,
	}
}

pub(crate) fn client_detail() -> ClientDetail {
	ClientDetail {
		client: client(),
		payments: 14,
		lsp_trusts: true,
		risk_ppm: 50_000,
		fee_share_ppm: 1_000_000,
		headroom_ppm: 350_000,
		max_payment_sat: 500_000,
		max_channel_sat: 10_000_000,
		set: ClientSettings { max_payment_sat: Some(500_000), note: Some(s("the cafe")), ..ClientSettings::default() },
		token: Some(token().id),
		history: vec![HistoryLine { at: T0, step: s("tier"), text: s("promoted from new to known") }],
	}
}

pub(crate) fn token() -> Token {
	Token {
		id: s("t_7Q2M0ABC"),
		status: TokenStatus::Active,
		tier: s("known"),
		label: s("for the fair"),
		max_uses: Some(5),
		uses: 1,
		expires_at: Some(T1),
		created_at: T0,
		revoked_at: None,
	}
}

fn hold_histogram(sum_ms: u64, max_ms: u64) -> HoldHistogram {
	let buckets = [(5, 30), (60, 40), (300, 41)].map(|(secs, count)| HoldBucket { secs, count });
	HoldHistogram { buckets: buckets.into(), count: 41, sum_ms, max_ms }
}

pub(crate) fn holds() -> HoldTimes {
	let (forwarded, intercepted) = (hold_histogram(612_345, 190_000), hold_histogram(61_234, 61_000));
	HoldTimes { forwarded, intercepted, now: 1, oldest_secs: 12 }
}

pub(crate) fn quote(request: &QuoteRequest) -> Quote {
	let term = |name: &str, amount_msat, how: &str| QuoteTerm { name: s(name), amount_msat, how: s(how) };
	Quote {
		kind: request.kind,
		size_sat: request.size_sat,
		tier: request.tier.clone().unwrap_or_else(|| s("new")),
		capacity_sat: 312_500,
		feerate_sat_per_kw: 2_000,
		long_run_feerate_sat_per_kw: 1_500,
		cost_sat: 4_201,
		fee_msat: 4_600_000,
		min_fee_msat: 4_600_000,
		proportional_ppm: 7_451,
		rule: s("4,600 sat, or 7,451 ppm of the payment if that is more"),
		terms: vec![
			term("open", 1_700_000, "850 weight units at 8 sat/vB"),
			term("close", 1_348_000, "90 % of closes take 800 weight units, 10 % take 2,450 and 660 sat, at 6 sat/vB"),
			term("capital", 771_000, "30,000 ppm a year of 312,500 sat for 4,320 blocks"),
			term("risk", 382_000, "100,000 ppm of these, for tier new"),
		],
		valid_until: T1,
		not_sold_because: Some(s("feerate 61 sat/vB is above the ceiling of 50")),
	}
}

pub(crate) fn ledger(list: &ListRequest) -> Ledger {
	let entry = |seq, kind, amount_msat, reference: &str| LedgerEntry {
		seq,
		at: T1,
		kind,
		amount_msat,
		client: Some(s(CLIENT)),
		reference: s(reference),
		postings: vec![posting("assets:pending:fees", amount_msat), posting("income:jit", -amount_msat)],
	};
	let entries =
		[entry(700, LedgerKind::FundingCost, -360_000, TXID), entry(701, LedgerKind::JitFee, 2_200_000, SALE)];
	let page = Page::descending(entries, list, |entry| format!("{:020}", entry.seq));
	Ledger {
		entries: page.items,
		totals: vec![
			LedgerTotal { kind: LedgerKind::JitFee, entries: 1, amount_msat: 2_200_000 },
			LedgerTotal { kind: LedgerKind::FundingCost, entries: 1, amount_msat: -360_000 },
		],
		net_msat: 1_840_000,
		folded: Some(LedgerFolded {
			before_seq: 700,
			until: Time(1_767_180_000_000),
			whole_from: s("2026-01"),
			brought_forward: match page.next {
				Some(_) => Vec::new(),
				None => vec![posting("assets:wallet", 9_950_000_000), posting("equity:deposits", -9_950_000_000)],
			},
		}),
		next: page.next,
	}
}

fn posting(account: &str, amount_msat: i64) -> LedgerPosting {
	LedgerPosting { account: s(account), amount_msat }
}

pub(crate) fn ledger_check() -> LedgerCheck {
	let same = |what: &str, msat| LedgerComparison { what: s(what), booked_msat: msat, actual_msat: msat };
	LedgerCheck {
		balanced: true,
		entries: 702,
		sum_msat: 0,
		wallet: same("wallet", 9_640_000_000),
		channels: same("channels", 310_000_000),
		differing: Vec::new(),
		closing_msat: 0,
		htlcs_in_flight: 0,
		agreed_before: 702,
		agreed_at: Some(T1),
		accounts: vec![
			posting("assets:wallet", 9_640_000_000),
			posting("assets:channels", 310_000_000),
			posting("equity:deposits", -9_950_000_000),
		],
	}
}

pub(crate) fn ledger_report(request: LedgerReportRequest) -> LedgerReport {
	let name = match request.by {
		ReportBy::Client => CLIENT,
		ReportBy::Channel => CHANNEL,
		ReportBy::Tier => "known",
		ReportBy::Month => "2026-11",
	};
	let line = LedgerReportLine {
		name: s(name),
		channels: 1,
		earned_msat: 2_200_000,
		cost_msat: 360_000,
		profit_msat: 1_840_000,
		quoted_msat: 2_200_000,
		expected_cost_msat: 1_510_000,
		sat_days: Some(9_300_000),
		yearly_ppm: Some(72_215),
	};
	LedgerReport { lines: vec![line], cut: false }
}

pub(crate) fn capital() -> Capital {
	Capital {
		confirmed_sat: 9_640_000,
		unconfirmed_sat: 0,
		anchors_sat: 22_000,
		reserved_sat: 310_400,
		free_sat: 9_296_600,
		at_risk_sat: 310_000,
		locked_sat: 1_310_000,
		offline_sat: 310_000,
		idle_sat: 310_000,
		channels: 2,
		channels_carried: 3,
		coins_there: 3,
		coins_coming: 0,
		coins_wanted: 6,
		coins_missing: 3,
		coins_next: s("nothing: switched off"),
		limits: vec![
			LimitTaken { key: s("capital.max_at_risk_sat"), taken: 250_000, most: 50_000_000 },
			LimitTaken { key: s("capital.max_channels_per_hour"), taken: 2, most: 200 },
		],
		sellable: vec![Sellable { size_sat: 100_000, count: 3 }, Sellable { size_sat: 1_000_000, count: 2 }],
		fund_sat: 704_000,
		advice: vec![s("310000 sat are in idle channels: inlet capital reclaim")],
	}
}

pub(crate) fn reclaimed() -> Reclaimed {
	Reclaimed { told: Vec::new(), closing: vec![s(CHANNEL)], failed: Vec::new() }
}

pub(crate) fn reclaim_plan() -> ReclaimPlan {
	let line = ReclaimLine {
		id: s(CHANNEL),
		client: s(CLIENT),
		connected: true,
		local_sat: 310_000,
		remote_sat: 90_000,
		used_at: Some(T0),
		told_at: Some(T0),
		lease_left_blocks: 0,
		verdict: s("close"),
		because: s("told, here, and fees are low"),
		costs_sat_per_year: 15_500,
		profit_msat: 1_840_000,
		sat_days: 9_300_000,
	};
	ReclaimPlan { channels: vec![line], brings_sat: 310_000, reclaims_by_itself: false }
}
