//! What each command asks of the node.

use super::export;
use super::failure::Failure;
use super::http::{Node, Request, escape};
use super::render::{self, Style};
use super::terminal::Ui;
use crate::cli::{
	AmountOrAll, BackupCommand, CapitalCommand, ChannelsCommand, Cli, ClientsCommand, CloseArgs, Command, EventsArgs,
	ExportFormat, ForceCloseArgs, InvoiceArgs, LedgerArgs, LedgerCommand, OfferArgs, OpenArgs, PageArgs, PayArgs,
	PeersCommand, PolicyArgs, QuoteArgs, QuoteKindArg, Records, RecordsCommand, ReportByArg, SendArgs, TokensCommand,
	completions,
};
use crate::control::*;
use http_body_util::BodyExt;
use hyper::Method;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How often `status --watch` looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

struct Session<'a, 'b> {
	node: Node,
	json: bool,
	ui: &'a mut Ui<'b>,
}

/// Carries out one client command.
pub(super) async fn perform(cli: Cli, ui: &mut Ui<'_>) -> Result<(), Failure> {
	if let Command::Completions { shell } = cli.command {
		return ui.say(&completions(shell));
	}
	let node = match (&cli.socket, cli.data_dir()) {
		(Some(socket), _) => Node::at(socket.clone()),
		(None, Some(dir)) => Node::new(&dir),
		(None, None) => {
			let hint = "give --data-dir DIR or set INLET_DATA_DIR".to_owned();
			return Err(Failure::Usage { detail: "there is no home directory to look into".to_owned(), hint });
		}
	};
	let mut session = Session { node, json: cli.json, ui };
	let s = &mut session;
	match cli.command {
		Command::Status { watch: false } => s.show(Request::get("/v1/status"), render::status).await,
		Command::Status { watch: true } => s.watch().await,
		Command::Info => s.show(Request::get("/v1/info"), render::info).await,
		Command::Balance => s.show(Request::get("/v1/balance"), render::balance).await,
		Command::Address => s.show(Request::post("/v1/addresses"), render::address).await,
		Command::Send(args) => s.send(args).await,
		Command::Utxos(list) => s.show(page("/v1/utxos", list.page()), render::utxos).await,
		Command::Peers { verb } => s.peers(verb.unwrap_or_else(|| PeersCommand::List(PageArgs::default()))).await,
		Command::Channels { verb } => {
			s.channels(verb.unwrap_or_else(|| ChannelsCommand::List(PageArgs::default()))).await
		}
		Command::Invoice(args) => s.invoice(args).await,
		Command::Offer(args) => s.offer(args).await,
		Command::Pay(args) => s.pay(args).await,
		Command::Payments(records) => s.records("/v1/payments", records, render::payments, render::payment).await,
		Command::Orders(records) => s.records("/v1/orders", records, render::orders, render::order).await,
		Command::Sales(records) => s.records("/v1/sales", records, render::sales, render::sale).await,
		Command::Clients(args) => s.clients(args.verb.unwrap_or(ClientsCommand::List(args.page))).await,
		Command::Tokens { verb } => s.tokens(verb.unwrap_or_else(|| TokensCommand::List(PageArgs::default()))).await,
		Command::Quote(args) => s.quote(args).await,
		Command::Capital { verb: None } => s.show(Request::get("/v1/capital"), render::capital).await,
		Command::Capital { verb: Some(CapitalCommand::Reclaim { dry_run: true, .. }) } => {
			s.show(Request::get("/v1/capital/reclaim"), render::reclaim_plan).await
		}
		Command::Capital { verb: Some(CapitalCommand::Reclaim { yes, .. }) } => s.reclaim(yes).await,
		Command::Ledger(args) => s.ledger(args).await,
		Command::Fees => s.show(Request::get("/v1/fees"), render::fees).await,
		Command::Doctor(_) => {
			let found = s.ask(Request::get("/v1/doctor"), render::doctor).await?;
			well(&found)
		}
		Command::Storage(args) if args.verb.is_none() => {
			let render = |storage: &Storage, style: &Style| render::storage(storage, args.rated_tbw, style);
			s.show(Request::get("/v1/storage"), render).await
		}
		Command::Backup { verb: None | Some(BackupCommand::Status) } => {
			s.show(Request::get("/v1/backup"), render::backup).await
		}
		Command::Backup { verb: Some(BackupCommand::Now) } => s.show(Request::post("/v1/backup"), render::backup).await,
		Command::Sync => s.show(Request::get("/v1/sync"), render::sync).await,
		Command::Events(args) if args.follow => s.follow(args.since).await,
		Command::Events(args) => s.events(args).await,
		Command::Stop => s.show(Request::post("/v1/stop"), render::stopping).await,
		Command::Backup {
			verb: Some(BackupCommand::Init { .. } | BackupCommand::Verify { .. } | BackupCommand::Forget { .. }),
		}
		| Command::Restore(_)
		| Command::Run(_)
		| Command::Storage(_)
		| Command::Seed { .. }
		| Command::Config { .. }
		| Command::Completions { .. } => {
			let detail = "this command is not for a running node".to_owned();
			Err(Failure::Usage { detail, hint: "run it as: inlet COMMAND".to_owned() })
		}
	}
}

/// Something bad makes the command fail.
pub(super) fn well(found: &Doctor) -> Result<(), Failure> {
	let bad = found.checks.iter().filter(|check| check.verdict == Health::Bad).count();
	if bad == 0 {
		return Ok(());
	}
	let are = if bad == 1 { "1 thing is".to_owned() } else { format!("{bad} things are") };
	Err(Failure::refused("not_well", format!("{are} bad"), "what to do stands with each"))
}

fn page(path: &str, page: &PageArgs) -> Request {
	Request::get(path).query("limit", Some(page.limit)).query("cursor", page.cursor.as_ref())
}

/// An id as typed, in a path. Tables end a shortened id in `…`, which may have been copied along.
fn at(path: &str, id: &str) -> String {
	format!("{path}/{}", escape(id.trim_end_matches('…')))
}

impl Session<'_, '_> {
	/// Asks and shows the answer.
	async fn show<T: DeserializeOwned>(
		&mut self,
		request: Request,
		view: impl Fn(&T, &Style) -> String,
	) -> Result<(), Failure> {
		self.ask(request, view).await.map(|_: T| ())
	}

	/// Asks, shows the answer, and returns it.
	async fn ask<T: DeserializeOwned>(
		&mut self,
		request: Request,
		view: impl Fn(&T, &Style) -> String,
	) -> Result<T, Failure> {
		let body = self.node.ask(request).await?;
		let answer: T = understand(&body)?;
		match self.json {
			true => self.ui.say(&String::from_utf8_lossy(&body))?,
			false => self.ui.say(&view(&answer, &self.ui.style))?,
		}
		Ok(answer)
	}

	async fn records<T: DeserializeOwned + Listed, D: DeserializeOwned>(
		&mut self,
		path: &str,
		records: Records,
		list: fn(&Page<T>, &Style) -> String,
		one: fn(&D, &Style) -> String,
	) -> Result<(), Failure> {
		match records.verb {
			Some(RecordsCommand::Show { id }) => self.show(Request::get(at(path, &id)), one).await,
			Some(RecordsCommand::List(args)) => self.show(page(path, &args), list).await,
			None => self.show(page(path, &records.page), list).await,
		}
	}

	async fn watch(&mut self) -> Result<(), Failure> {
		let mut ticks = tokio::time::interval(WATCH_INTERVAL);
		loop {
			ticks.tick().await;
			self.ui.style.now = Time::from(std::time::SystemTime::now());
			if self.ui.style.color && !self.json {
				self.ui.out.write_all(b"\x1b[H\x1b[2J")?;
			}
			self.show(Request::get("/v1/status"), render::status).await?;
		}
	}

	async fn send(&mut self, args: SendArgs) -> Result<(), Failure> {
		let (amount_sat, all) = match args.amount {
			AmountOrAll::Amount(amount) => (Some(amount.sat()?), false),
			AmountOrAll::All => (None, true),
		};
		let feerate_sat_per_kw = args.feerate.map(|feerate| feerate.sat_per_kw);
		let dry = SendRequest { address: args.address, amount_sat, all, feerate_sat_per_kw, dry_run: true };
		let request = |body: &SendRequest| Request::post("/v1/send").body(body);
		if args.dry_run {
			return self.show(request(&dry), render::sent).await;
		}
		let mut real = SendRequest { dry_run: false, ..dry.clone() };
		if !args.yes && self.ui.ask.is_some() {
			let cost: Sent = understand(&self.node.ask(request(&dry)).await?)?;
			// What was agreed to is what is done.
			real.feerate_sat_per_kw = Some(cost.feerate_sat_per_kw);
			self.ui.confirm(false, &render::send_question(&cost))?;
		} else {
			self.ui.confirm(args.yes, "")?;
		}
		self.show(request(&real), render::sent).await
	}

	async fn peers(&mut self, verb: PeersCommand) -> Result<(), Failure> {
		match verb {
			PeersCommand::List(args) => self.show(page("/v1/peers", &args), render::peers).await,
			PeersCommand::Connect { peer } => {
				let Some(address) = peer.address else {
					let detail = "where the peer is has to be known".to_owned();
					return Err(Failure::Usage { detail, hint: "write PUBKEY@HOST:PORT".to_owned() });
				};
				let body = ConnectRequest { node_id: peer.node_id, address };
				self.show(Request::post("/v1/peers").body(&body), render::connected).await
			}
			PeersCommand::Disconnect { id } => {
				self.show(Request::new(Method::DELETE, at("/v1/peers", &id)), render::disconnected).await
			}
		}
	}

	async fn channels(&mut self, verb: ChannelsCommand) -> Result<(), Failure> {
		match verb {
			ChannelsCommand::List(args) => self.show(page("/v1/channels", &args), render::channels).await,
			ChannelsCommand::Show { id } => self.show(Request::get(at("/v1/channels", &id)), render::channel).await,
			ChannelsCommand::Open(args) => self.open(args).await,
			ChannelsCommand::Close(args) => self.close(args, false).await,
			ChannelsCommand::ForceClose(ForceCloseArgs { id, break_lease, yes }) => {
				self.close(CloseArgs { id, break_lease, feerate: None, yes }, true).await
			}
			ChannelsCommand::Policy(args) => self.policy(args).await,
		}
	}

	async fn open(&mut self, args: OpenArgs) -> Result<(), Failure> {
		let body = OpenChannelRequest {
			node_id: args.peer.node_id,
			address: args.peer.address,
			capacity_sat: args.capacity.sat()?,
			push_msat: args.push.map_or(0, |push| push.msat()),
			announce: args.announce,
			feerate_sat_per_kw: args.feerate.map(|feerate| feerate.sat_per_kw),
		};
		self.ui.confirm(args.yes, &render::open_question(&body))?;
		self.show(Request::post("/v1/channels").body(&body), render::opening).await
	}

	async fn close(&mut self, args: CloseArgs, force: bool) -> Result<(), Failure> {
		let path = at("/v1/channels", &args.id);
		let mut path_to_close = path.clone();
		if !args.yes && self.ui.ask.is_some() {
			let channel: Channel = understand(&self.node.ask(Request::get(path)).await?)?;
			self.ui.confirm(false, &render::close_question(&channel, force))?;
			path_to_close = at("/v1/channels", &channel.id);
		} else {
			self.ui.confirm(args.yes, "")?;
		}
		let body = CloseRequest {
			break_lease: args.break_lease,
			force,
			feerate_sat_per_kw: args.feerate.map(|feerate| feerate.sat_per_kw),
		};
		let verb = if force { "force-close" } else { "close" };
		self.show(Request::post(format!("{path_to_close}/{verb}")).body(&body), render::closing).await
	}

	/// Does to all channels what the plan says now.
	async fn reclaim(&mut self, yes: bool) -> Result<(), Failure> {
		let plan: ReclaimPlan = understand(&self.node.ask(Request::get("/v1/capital/reclaim")).await?)?;
		let due = plan.channels.iter().filter(|line| ["tell", "close"].contains(&line.verdict.as_str()));
		let channels: Vec<String> = due.map(|line| line.id.clone()).take(MAX_RECLAIMED).collect();
		if channels.is_empty() {
			let hint = "what becomes of each channel, and why: inlet capital reclaim --dry-run";
			return Err(Failure::refused("nothing_idle", "no channel is due", hint));
		}
		self.ui.confirm(yes, &render::reclaim_question(&plan, &self.ui.style))?;
		let body = ReclaimRequest { channels };
		self.show(Request::post("/v1/capital/reclaim").body(&body), render::reclaimed).await
	}

	async fn policy(&mut self, args: PolicyArgs) -> Result<(), Failure> {
		let base = args.base.map(|base| u32::try_from(base.msat())).transpose();
		let Ok(fee_base_msat) = base else {
			let detail = "a fixed fee of more than 4,294,967 sat cannot be announced".to_owned();
			return Err(Failure::Usage { detail, hint: "choose a smaller --base".to_owned() });
		};
		let body = ChannelPolicyRequest { fee_base_msat, fee_ppm: args.ppm, cltv_expiry_delta: args.cltv_delta };
		let path = format!("{}/policy", at("/v1/channels", &args.id));
		self.show(Request::new(Method::PATCH, path).body(&body), render::channel).await
	}

	async fn invoice(&mut self, args: InvoiceArgs) -> Result<(), Failure> {
		let body = InvoiceRequest {
			amount_msat: args.amount.msat(),
			description: args.description,
			expiry_secs: args.expiry.map(|expiry| expiry.0),
		};
		self.show(Request::post("/v1/invoices").body(&body), render::invoice).await
	}

	async fn offer(&mut self, args: OfferArgs) -> Result<(), Failure> {
		let body = OfferRequest {
			amount_msat: args.amount.msat(),
			description: args.description,
			expiry_secs: args.expiry.map(|expiry| u64::from(expiry.0)),
		};
		self.show(Request::post("/v1/offers").body(&body), render::offer).await
	}

	async fn pay(&mut self, args: PayArgs) -> Result<(), Failure> {
		let body = PayRequest {
			to: args.to,
			amount_msat: args.amount.map(|amount| amount.msat()),
			max_fee_msat: args.max_fee.map(|fee| fee.msat()),
			wait_secs: args.wait.map(|wait| u64::from(wait.0)),
		};
		self.ui.confirm(args.yes, &render::pay_question(&body))?;
		let wait = Duration::from_secs(body.wait_secs.unwrap_or(DEFAULT_PAY_WAIT_SECS));
		let request = Request::post("/v1/payments").body(&body).wait(wait);
		let payment: Payment = self.ask(request, render::payment).await?;
		let see = format!("inlet payments show {} tells more", payment.id);
		match payment.status {
			PaymentStatus::Succeeded => Ok(()),
			PaymentStatus::Failed => {
				let reason = payment.reason.unwrap_or_else(|| "for a reason that is not known".to_owned());
				Err(Failure::refused("payment_failed", format!("the payment failed: {reason}"), see))
			}
			PaymentStatus::Pending => Err(Failure::refused(
				"payment_pending",
				format!("the payment is still on its way after {} s", wait.as_secs()),
				format!("do not pay again; {see}"),
			)),
		}
	}

	async fn clients(&mut self, verb: ClientsCommand) -> Result<(), Failure> {
		const PATH: &str = "/v1/clients";
		match verb {
			ClientsCommand::List(args) => self.show(page(PATH, &args), render::clients).await,
			ClientsCommand::Show { id } => self.show(Request::get(at(PATH, &id)), render::client).await,
			ClientsCommand::Clear { id } => {
				self.show(Request::post(format!("{}/clear", at(PATH, &id))), render::client).await
			}
			ClientsCommand::Set(args) => {
				let settings = ClientSettings {
					tier: args.tier,
					listed: match (args.block, args.allow) {
						(true, _) => Some(ClientListing::Blocked),
						(_, true) => Some(ClientListing::Allowed),
						_ => None,
					},
					max_payment_sat: args.max_payment.map(|amount| amount.sat()).transpose()?,
					max_channel_sat: args.max_channel.map(|amount| amount.sat()).transpose()?,
					fee_share_ppm: args.fee_share,
					headroom_ppm: args.headroom,
					note: args.note,
				};
				self.show(Request::new(Method::PATCH, at(PATH, &args.id)).body(&settings), render::client).await
			}
		}
	}

	async fn tokens(&mut self, verb: TokensCommand) -> Result<(), Failure> {
		const PATH: &str = "/v1/tokens";
		match verb {
			TokensCommand::List(args) => self.show(page(PATH, &args), render::tokens).await,
			TokensCommand::Show { id } => self.show(Request::get(at(PATH, &id)), render::token).await,
			TokensCommand::Revoke { id } => {
				self.show(Request::post(format!("{}/revoke", at(PATH, &id))), render::token).await
			}
			TokensCommand::Issue { tier, uses, expires, label } => {
				let expires_in_secs = expires.map(|time| time.0.into());
				let request = TokenRequest { tier, label, max_uses: uses, expires_in_secs };
				self.show(Request::post(PATH).body(&request), render::issued).await
			}
		}
	}

	async fn quote(&mut self, args: QuoteArgs) -> Result<(), Failure> {
		let kind = match args.kind {
			QuoteKindArg::Order => "order",
			QuoteKindArg::Jit if args.lsps1 => "order",
			QuoteKindArg::Jit => "jit",
		};
		let size = args.size.or(args.size_flag).map(|amount| amount.sat()).transpose()?;
		let client_balance = args.client_balance.map(|amount| amount.sat()).transpose()?;
		let request = Request::get("/v1/quote")
			.query("kind", Some(kind))
			.query("size_sat", size)
			.query("tier", args.tier)
			.query("client", args.client)
			.query("feerate_sat_per_kw", args.feerate.map(|feerate| feerate.sat_per_kw))
			.query("client_balance_sat", client_balance)
			.query("channel_expiry_blocks", args.expiry_blocks)
			.query("funding_confirms_within_blocks", args.confirms_within);
		self.show(request, if args.explain { render::quote_explained } else { render::quote }).await
	}

	async fn ledger(&mut self, args: LedgerArgs) -> Result<(), Failure> {
		match args.verb.unwrap_or(LedgerCommand::List(args.page)) {
			LedgerCommand::List(list) => self.show(page("/v1/ledger", &list), render::ledger).await,
			LedgerCommand::Check { wait } => {
				let request = Request::get("/v1/ledger/check").query("wait_secs", Some(wait));
				let request = request.wait(Duration::from_secs(wait));
				let check: LedgerCheck = self.ask(request, render::ledger_check).await?;
				match check.balanced {
					true => Ok(()),
					false => Err(Failure::refused(
						"not_balanced",
						"the books differ from what is there",
						"look again when no payment is on its way; then report it, with inlet ledger export",
					)),
				}
			}
			LedgerCommand::Report { by } => {
				let by = match by {
					ReportByArg::Client => "client",
					ReportByArg::Channel => "channel",
					ReportByArg::Tier => "tier",
					ReportByArg::Month => "month",
				};
				self.show(Request::get("/v1/ledger/report").query("by", Some(by)), render::ledger_report).await
			}
			LedgerCommand::Export { format } => self.export(format).await,
		}
	}

	/// Page by page; oldest first, so that all of it is read before the first line.
	async fn export(&mut self, format: ExportFormat) -> Result<(), Failure> {
		let mut entries: Vec<LedgerEntry> = Vec::new();
		let mut cursor: Option<String> = None;
		let folded = loop {
			let request = Request::get("/v1/ledger").query("limit", Some(MAX_LIMIT)).query("cursor", cursor.as_ref());
			let ledger: Ledger = understand(&self.node.ask(request).await?)?;
			entries.extend(ledger.entries);
			cursor = ledger.next;
			if cursor.is_none() {
				break ledger.folded;
			}
		};
		if format == ExportFormat::Csv {
			self.ui.say(export::CSV_HEADER)?;
		}
		if let Some(folded) = &folded {
			let note = render::folded_note(folded);
			writeln!(self.ui.err, "note: {note}; what was in the accounts by then comes first")?;
			let text = match format {
				ExportFormat::Csv => export::csv_folded(folded),
				ExportFormat::Json => serde_json::json!({ "folded": folded }).to_string(),
				ExportFormat::Hledger => export::hledger_folded(folded, &note),
			};
			if !text.is_empty() {
				self.ui.say(&text)?;
			}
		}
		for entry in entries.iter().rev() {
			let text = match format {
				ExportFormat::Csv => export::csv(entry),
				ExportFormat::Json => serde_json::to_string(entry).unwrap_or_default(),
				ExportFormat::Hledger => export::hledger(entry),
			};
			self.ui.say(text.trim_end_matches('\n'))?;
			if format == ExportFormat::Hledger {
				self.ui.say("")?;
			}
		}
		Ok(())
	}

	async fn events(&mut self, args: EventsArgs) -> Result<(), Failure> {
		let page_args = PageArgs { limit: args.limit, cursor: args.cursor };
		self.show(page("/v1/events", &page_args), render::events).await
	}

	/// Prints events as they come, one a line, until the node stops (which counts as not reachable).
	async fn follow(&mut self, since: Option<u64>) -> Result<(), Failure> {
		let request = Request::get("/v1/events").query("follow", Some(true)).query("since", since);
		let mut body = self.node.stream(request).await?;
		let mut received = Vec::new();
		while let Some(frame) = body.frame().await {
			let frame = frame.map_err(|error| self.node.broke_off(&error))?;
			received.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
			while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
				let line: Vec<u8> = received.drain(..=end).collect();
				self.event_line(&String::from_utf8_lossy(&line))?;
			}
		}
		let hint = "start it again (inlet run), then follow again".to_owned();
		Err(Failure::NotReachable { detail: "the node has stopped".to_owned(), hint })
	}

	/// One line of the stream. Each of our events is on one `data:` line; its other lines repeat what is in there.
	fn event_line(&mut self, line: &str) -> Result<(), Failure> {
		let Some(data) = line.strip_prefix("data:").map(str::trim) else { return Ok(()) };
		if self.json {
			return self.ui.say(data);
		}
		match understand::<Event>(data.as_bytes()) {
			Ok(event) => self.ui.say(&render::event(&event, &self.ui.style)),
			Err(_) => self.ui.say("(some events came faster than they could be shown, and are left out)"),
		}
	}
}

/// What the node said, with nothing in its strings that could command a terminal: many of them were chosen by strangers.
fn understand<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
	let answer = serde_json::from_slice(body).map(render::clean_value).and_then(serde_json::from_value);
	answer.map_err(|error| {
		let hint = "is the node of the same version as this command? (inlet --version)";
		Failure::refused("not_understood", format!("the node's answer is not as expected: {error}"), hint)
	})
}
