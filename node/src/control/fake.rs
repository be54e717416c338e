//! A node in memory, for the tests of the API and the client.

mod examples;

use super::*;
use async_trait::async_trait;
use std::sync::Mutex;
use tokio::sync::{Notify, broadcast};

pub(crate) use examples::*;

/// Answers as a healthy node would, and remembers what it was asked to do.
pub(crate) struct Fake {
	/// What it was asked to do, as `method request`.
	pub done: Mutex<Vec<String>>,
	/// Its events.
	pub bus: Events,
	/// With this, `send` waits for it.
	pub hold: Option<Notify>,
	/// With this, `balance` refuses.
	pub refuse: Option<Refusal>,
}

impl Fake {
	pub fn new() -> Fake {
		let bus = Events::new();
		bus.publish(T0, EventKind::Started, None, "inlet 0.1.0 runs", serde_json::json!({ "version": "0.1.0" }));
		bus.publish(
			T1,
			EventKind::Sale,
			Some(SALE.into()),
			"open: 310,000 sat",
			serde_json::json!({ "step": "open", "capacity_sat": 310_000 }),
		);
		Fake { done: Mutex::default(), bus, hold: None, refuse: None }
	}

	fn note(&self, method: &str, request: impl std::fmt::Debug) {
		self.done.lock().unwrap().push(format!("{method} {request:?}"));
	}

	pub fn done(&self) -> Vec<String> {
		self.done.lock().unwrap().clone()
	}
}

#[async_trait]
impl Control for Fake {
	async fn status(&self) -> Result<Status, Refusal> {
		Ok(status())
	}

	async fn info(&self) -> Result<Info, Refusal> {
		Ok(info())
	}

	async fn sync(&self) -> Result<SyncState, Refusal> {
		Ok(sync())
	}

	async fn fees(&self) -> Result<Fees, Refusal> {
		Ok(fees())
	}

	async fn storage(&self) -> Result<Storage, Refusal> {
		Ok(storage())
	}

	async fn backup(&self) -> Result<Backup, Refusal> {
		Ok(backup())
	}

	async fn backup_now(&self) -> Result<Backup, Refusal> {
		self.note("backup now", ());
		Ok(backup())
	}

	async fn holds(&self) -> Result<HoldTimes, Refusal> {
		Ok(holds())
	}

	async fn doctor(&self) -> Result<Doctor, Refusal> {
		Ok(doctor())
	}

	async fn stop(&self) -> Result<Stopping, Refusal> {
		self.note("stop", ());
		Ok(Stopping { stopping: true })
	}

	async fn balance(&self) -> Result<Balance, Refusal> {
		match &self.refuse {
			Some(refusal) => Err(refusal.clone()),
			None => Ok(balance()),
		}
	}

	async fn new_address(&self) -> Result<NewAddress, Refusal> {
		Ok(NewAddress { address: ADDRESS.into() })
	}

	async fn send(&self, request: SendRequest) -> Result<Sent, Refusal> {
		if let Some(hold) = &self.hold {
			self.note("begin send", ());
			hold.notified().await;
		}
		self.note("send", &request);
		Ok(sent(&request))
	}

	async fn utxos(&self, list: ListRequest) -> Result<Page<Utxo>, Refusal> {
		Ok(Page::ascending(utxos(), &list, |utxo| utxo.outpoint.clone()))
	}

	async fn peers(&self, list: ListRequest) -> Result<Page<Peer>, Refusal> {
		Ok(Page::ascending(peers(), &list, |peer| peer.node_id.clone()))
	}

	async fn connect(&self, request: ConnectRequest) -> Result<Peer, Refusal> {
		self.note("connect", &request);
		Ok(Peer { node_id: request.node_id, address: Some(request.address), ..peers().remove(0) })
	}

	async fn disconnect(&self, node_id: String) -> Result<Disconnected, Refusal> {
		let peer = pick("peers", &node_id, peers().into_iter().map(|peer| (peer.node_id.clone(), peer)))?;
		self.note("disconnect", &peer.node_id);
		Ok(Disconnected { node_id: peer.node_id })
	}

	async fn channels(&self, list: ListRequest) -> Result<Page<Channel>, Refusal> {
		Ok(Page::ascending(channels(), &list, |channel| channel.id.clone()))
	}

	async fn channel(&self, id: String) -> Result<Channel, Refusal> {
		pick("channels", &id, channels().into_iter().map(|channel| (channel.id.clone(), channel)))
	}

	async fn open_channel(&self, request: OpenChannelRequest) -> Result<Opening, Refusal> {
		self.note("open", &request);
		Ok(opening(&request))
	}

	async fn close_channel(&self, id: String, request: CloseRequest) -> Result<Closing, Refusal> {
		request.check()?;
		let channel = self.channel(id).await?;
		if channel.lease_until_height.is_some() && !request.break_lease {
			let hint = "wait for the end of its lease, or add --break-lease";
			return Err(Refusal::conflict("under_lease", "the channel is sold until block 875,510", hint));
		}
		self.note("close", &request);
		Ok(Closing { id: channel.id, peer: channel.peer, force: request.force, local_msat: channel.local_msat })
	}

	async fn set_channel_policy(&self, id: String, request: ChannelPolicyRequest) -> Result<Channel, Refusal> {
		let channel = self.channel(id).await?;
		self.note("policy", &request);
		Ok(Channel {
			fee_base_msat: request.fee_base_msat.unwrap_or(channel.fee_base_msat),
			fee_ppm: request.fee_ppm.unwrap_or(channel.fee_ppm),
			..channel
		})
	}

	async fn invoice(&self, request: InvoiceRequest) -> Result<Invoice, Refusal> {
		self.note("invoice", &request);
		Ok(invoice(&request))
	}

	async fn offer(&self, request: OfferRequest) -> Result<Offer, Refusal> {
		self.note("offer", &request);
		Ok(offer(&request))
	}

	async fn pay(&self, request: PayRequest) -> Result<Payment, Refusal> {
		self.note("pay", &request);
		let status = if request.to == "lnfails" { PaymentStatus::Failed } else { PaymentStatus::Succeeded };
		Ok(Payment { status, ..payment(1) })
	}

	async fn payments(&self, list: ListRequest) -> Result<Page<Payment>, Refusal> {
		Ok(Page::descending((0..120).map(payment), &list, |payment| payment.id.clone()))
	}

	async fn payment(&self, id: String) -> Result<Payment, Refusal> {
		pick("payments", &id, (0..120).map(|n| (payment(n).id, payment(n))))
	}

	async fn orders(&self, list: ListRequest) -> Result<Page<Order>, Refusal> {
		Ok(Page::descending([order().order], &list, |order| order.id.clone()))
	}

	async fn order(&self, id: String) -> Result<OrderDetail, Refusal> {
		pick("orders", &id, [(ORDER.to_owned(), order())])
	}

	async fn sales(&self, list: ListRequest) -> Result<Page<Sale>, Refusal> {
		Ok(Page::descending([sale().sale], &list, |sale| sale.id.clone()))
	}

	async fn sale(&self, id: String) -> Result<SaleDetail, Refusal> {
		pick("sales", &id, [(SALE.to_owned(), sale())])
	}

	async fn clients(&self, list: ListRequest) -> Result<Page<Client>, Refusal> {
		Ok(Page::ascending([client()], &list, |client| client.node_id.clone()))
	}

	async fn client(&self, id: String) -> Result<ClientDetail, Refusal> {
		pick("clients", &id, [(CLIENT.to_owned(), client_detail())])
	}

	async fn set_client(&self, id: String, settings: ClientSettings) -> Result<ClientDetail, Refusal> {
		self.note("set client", (&id, &settings));
		Ok(ClientDetail { set: settings, ..client_detail() })
	}

	async fn clear_client(&self, id: String) -> Result<ClientDetail, Refusal> {
		self.note("clear client", &id);
		Ok(ClientDetail { set: ClientSettings::default(), ..client_detail() })
	}

	async fn tokens(&self, list: ListRequest) -> Result<Page<Token>, Refusal> {
		Ok(Page::descending([token()], &list, |token| token.id.clone()))
	}

	async fn issue_token(&self, request: TokenRequest) -> Result<IssuedToken, Refusal> {
		self.note("issue token", &request);
		let token = Token { tier: request.tier, label: request.label, max_uses: request.max_uses, uses: 0, ..token() };
		Ok(IssuedToken { code: "inlet_5KQ2M7Z0ABCDEFGHJKMNPQRSTV".into(), token })
	}

	async fn token(&self, id: String) -> Result<TokenDetail, Refusal> {
		let detail = TokenDetail { token: token(), clients: vec![CLIENT.into()] };
		pick("tokens", &id, [(token().id, detail)])
	}

	async fn revoke_token(&self, id: String) -> Result<TokenDetail, Refusal> {
		self.note("revoke token", &id);
		let token = Token { status: TokenStatus::Revoked, revoked_at: Some(T1), ..token() };
		Ok(TokenDetail { token, clients: vec![CLIENT.into()] })
	}

	async fn quote(&self, request: QuoteRequest) -> Result<Quote, Refusal> {
		self.note("quote", &request);
		Ok(quote(&request))
	}

	async fn ledger(&self, list: ListRequest) -> Result<Ledger, Refusal> {
		Ok(ledger(&list))
	}

	async fn capital(&self) -> Result<Capital, Refusal> {
		Ok(capital())
	}

	async fn reclaim_plan(&self) -> Result<ReclaimPlan, Refusal> {
		Ok(reclaim_plan())
	}

	async fn reclaim(&self, request: ReclaimRequest) -> Result<Reclaimed, Refusal> {
		request.check()?;
		Ok(reclaimed())
	}

	async fn ledger_check(&self, _: LedgerCheckRequest) -> Result<LedgerCheck, Refusal> {
		Ok(ledger_check())
	}

	async fn ledger_report(&self, request: LedgerReportRequest) -> Result<LedgerReport, Refusal> {
		Ok(ledger_report(request))
	}

	fn recent_events(&self) -> Vec<Event> {
		self.bus.recent()
	}

	fn events(&self) -> broadcast::Receiver<Event> {
		self.bus.subscribe()
	}
}
