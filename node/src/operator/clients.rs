//! What holds for which clients, for the operator.

use super::{Operator, node_id};
use crate::control::*;
use crate::driver::now;
use inlet_lsp::book::{self, Book, NodeId};
use inlet_lsp::input::{Deed, Input};
use inlet_lsp::money::{Ppm, Sat};
use inlet_lsp::policy::Policy;
use inlet_lsp::tiers::{self, Listing, MAX_CLIENT_NOTE, Overrides};
use inlet_lsp::time::Timestamp;
use inlet_lsp::tokens::{self, MAX_LABEL, MAX_TOKENS};
use lightning::sign::EntropySource;

/// Digits and letters that are not mistaken for each other: 5 bits each.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// What a token begins with, so that people and scanners for leaked secrets know it.
const CODE_PREFIX: &str = "inlet_";

impl Operator {
	pub(super) fn client_detail(&self, id: &str) -> Result<ClientDetail, Refusal> {
		let client =
			pick("clients", id, self.all_clients().into_iter().map(|client| (client.node_id.clone(), client)))?;
		let id = node_id(&client.node_id)?;
		Ok(self.driver.read(|book| detail(&self.config.policy, book, client, &id)))
	}

	/// The client that `id` means: one that we know, or a whole node id.
	fn client_id(&self, id: &str) -> Result<NodeId, Refusal> {
		match id.parse() {
			Ok(id) => Ok(id),
			Err(_) => node_id(&self.client_detail(id)?.client.node_id),
		}
	}

	pub(super) async fn set_client(&self, id: &str, settings: ClientSettings) -> Result<ClientDetail, Refusal> {
		let id = self.client_id(id)?;
		self.known_tier(settings.tier.as_deref())?;
		if settings.note.as_ref().is_some_and(|note| note.chars().count() > MAX_CLIENT_NOTE) {
			let detail = format!("the note is longer than {MAX_CLIENT_NOTE} characters");
			return Err(Refusal::invalid("note_too_long", detail, "write less"));
		}
		let before = self.driver.read(|book| book.client(&id).map(|client| client.overrides.clone()));
		let overrides = laid_over(before.unwrap_or_default(), settings);
		self.decide(Deed::SetClient { client: id, overrides }).await?;
		self.client_detail(&id.to_string())
	}

	pub(super) async fn clear_client(&self, id: &str) -> Result<ClientDetail, Refusal> {
		let client = self.client_id(id)?;
		self.decide(Deed::SetClient { client, overrides: Overrides::default() }).await?;
		self.client_detail(&client.to_string())
	}

	pub(super) fn token_page(&self, list: &ListRequest) -> Page<Token> {
		let all: Vec<Token> = self.driver.read(|book| book.tokens().map(|token| token_view(token, now())).collect());
		Page::descending(all, list, |token| format!("{:020}-{}", token.created_at.0, token.id))
	}

	pub(super) fn token_detail(&self, id: &str) -> Result<TokenDetail, Refusal> {
		self.driver.read(|book| {
			let token = pick("tokens", id, book.tokens().map(|token| (token.id.clone(), token)))?;
			let users = book.clients().filter(|client| client.token.as_ref() == Some(&token.id));
			let clients = users.map(|client| client.id.to_string()).collect();
			Ok(TokenDetail { token: token_view(token, now()), clients })
		})
	}

	pub(super) async fn issue(&self, request: TokenRequest) -> Result<IssuedToken, Refusal> {
		self.known_tier(Some(&request.tier))?;
		if request.label.chars().count() > MAX_LABEL {
			let detail = format!("the label is longer than {MAX_LABEL} characters");
			return Err(Refusal::invalid("label_too_long", detail, "write less"));
		}
		if request.max_uses == Some(0) || request.expires_in_secs == Some(0) {
			let detail = "nobody could use such a token";
			return Err(Refusal::invalid(
				"useless_token",
				detail,
				"leave out max_uses and expires_in_secs, or write 1 or more",
			));
		}
		let code = format!("{CODE_PREFIX}{}", self.letters(26));
		let at = now();
		let token = tokens::Token {
			id: format!("t_{}", self.letters(8)),
			hash: tokens::hash(&code),
			tier: request.tier,
			label: request.label,
			max_uses: request.max_uses,
			uses: 0,
			expires_at: request.expires_in_secs.map(|secs| at.plus_secs(secs)),
			created_at: at,
			revoked_at: None,
		};
		let (id, hash) = (token.id.clone(), token.hash.clone());
		self.decide(Deed::IssueToken(token)).await?;
		let issued = self.driver.read(|book| book.token(&id).filter(|token| token.hash == hash).cloned());
		let Some(issued) = issued else {
			let detail = format!("there are {MAX_TOKENS} tokens that are not revoked");
			return Err(Refusal::not_possible("too_many_tokens", detail, "revoke some: inlet tokens revoke"));
		};
		Ok(IssuedToken { code, token: token_view(&issued, at) })
	}

	pub(super) async fn revoke(&self, id: &str) -> Result<TokenDetail, Refusal> {
		let id = self.token_detail(id)?.token.id;
		self.decide(Deed::RevokeToken(id.clone())).await?;
		self.token_detail(&id)
	}

	async fn decide(&self, deed: Deed) -> Result<(), Refusal> {
		self.driver.submit(Input::Operator(deed)).await.map_err(|e| Refusal::internal(e.to_string()))
	}

	/// Is there such a tier?
	pub(super) fn known_tier(&self, name: Option<&str>) -> Result<(), Refusal> {
		let tiers = &self.config.policy.tier;
		match name.filter(|name| tiers.get(name).is_none()) {
			None => Ok(()),
			Some(name) => {
				let names: Vec<&str> = tiers.0.keys().map(String::as_str).collect();
				let hint = format!("the tiers are: {}", names.join(", "));
				Err(Refusal::invalid("no_such_tier", format!("there is no tier {name}"), hint))
			}
		}
	}

	/// At most 32 letters of 5 random bits each.
	fn letters(&self, count: usize) -> String {
		let random = self.hands.lightning.keys.get_secure_random_bytes();
		random.iter().take(count).map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
	}
}

fn laid_over(before: Overrides, new: ClientSettings) -> Overrides {
	let listed = new.listed.map(|listed| match listed {
		ClientListing::Blocked => Listing::Blocked,
		ClientListing::Allowed => Listing::Allowed,
	});
	Overrides {
		tier: new.tier.or(before.tier),
		listed: listed.or(before.listed),
		max_payment_sat: new.max_payment_sat.map(Sat).or(before.max_payment_sat),
		max_channel_sat: new.max_channel_sat.map(Sat).or(before.max_channel_sat),
		fee_share_ppm: new.fee_share_ppm.map(Ppm).or(before.fee_share_ppm),
		headroom_ppm: new.headroom_ppm.map(Ppm).or(before.headroom_ppm),
		note: new.note.unwrap_or(before.note),
	}
}

pub(super) fn listing(client: &book::Client) -> Option<ClientListing> {
	client.overrides.listed.map(|listed| match listed {
		Listing::Blocked => ClientListing::Blocked,
		Listing::Allowed => ClientListing::Allowed,
	})
}

fn detail(policy: &Policy, book: &Book, view: Client, id: &NodeId) -> ClientDetail {
	let stands = tiers::standing(policy, book, id, now());
	let client = book.client(id).cloned().unwrap_or_else(|| book::Client::new(*id, now()));
	let own = &client.overrides;
	let set = ClientSettings {
		tier: own.tier.clone(),
		listed: listing(&client),
		max_payment_sat: own.max_payment_sat.map(|limit| limit.0),
		max_channel_sat: own.max_channel_sat.map(|limit| limit.0),
		fee_share_ppm: own.fee_share_ppm.map(|share| share.0),
		headroom_ppm: own.headroom_ppm.map(|share| share.0),
		note: Some(own.note.clone()).filter(|note| !note.is_empty()),
	};
	ClientDetail {
		client: view,
		payments: client.payments,
		lsp_trusts: stands.lsp_trusts,
		risk_ppm: stands.risk_ppm.0,
		fee_share_ppm: stands.fee_share_ppm.0,
		headroom_ppm: stands.headroom_ppm.0,
		max_payment_sat: stands.max_payment.0,
		max_channel_sat: stands.max_channel.0,
		set,
		token: client.token.clone(),
		history: super::sales::history(&client.history),
	}
}

fn token_view(token: &tokens::Token, now: Timestamp) -> Token {
	let status = if token.revoked_at.is_some() {
		TokenStatus::Revoked
	} else if token.has_use_left(now) {
		TokenStatus::Active
	} else if token.expires_at.is_some_and(|at| at <= now) {
		TokenStatus::Expired
	} else {
		TokenStatus::UsedUp
	};
	Token {
		id: token.id.clone(),
		status,
		tier: token.tier.clone(),
		label: token.label.clone(),
		max_uses: token.max_uses,
		uses: token.uses,
		expires_at: token.expires_at.map(Into::into),
		created_at: token.created_at.into(),
		revoked_at: token.revoked_at.map(Into::into),
	}
}
