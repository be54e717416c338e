//! What holds for which clients: tiers, what the operator sets by hand, tokens.

use super::{Client, HistoryLine, Listed, Time};
use serde::{Deserialize, Serialize};

/// The operator's two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClientListing {
	/// Nothing is sold to it.
	Blocked,
	/// It is sold to although `risk.only_allowed` is set.
	Allowed,
}

/// What the operator sets for one client. What is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ClientSettings {
	/// Its tier, whatever it has earned.
	pub tier: Option<String>,
	/// On a list?
	pub listed: Option<ClientListing>,
	/// Largest payment that opens a channel for it.
	pub max_payment_sat: Option<u64>,
	/// Largest channel of either kind.
	pub max_channel_sat: Option<u64>,
	/// The share of the proportional fee that it pays, in millionths.
	pub fee_share_ppm: Option<u32>,
	/// Room beyond its payment, in millionths of it, instead of all other rules.
	pub headroom_ppm: Option<u32>,
	/// For you, at most 200 characters.
	pub note: Option<String>,
}

/// A client, what holds for it and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClientDetail {
	/// The client.
	#[serde(flatten)]
	pub client: Client,
	/// Payments that it received over its channels, up to 100.
	pub payments: u32,
	/// Is its funding broadcast before it has taken the payment?
	pub lsp_trusts: bool,
	/// Margin on its costs, in millionths.
	pub risk_ppm: u32,
	/// The share of the proportional fee that it pays, in millionths.
	pub fee_share_ppm: u32,
	/// Room beyond its payment, in millionths of it.
	pub headroom_ppm: u32,
	/// Largest payment that opens a channel for it.
	pub max_payment_sat: u64,
	/// Largest channel of either kind.
	pub max_channel_sat: u64,
	/// What you have set for it.
	pub set: ClientSettings,
	/// The id of the token that it has shown.
	pub token: Option<String>,
	/// What happened to its tier, newest last.
	pub history: Vec<HistoryLine>,
}

/// Can a token still be used?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TokenStatus {
	/// Yes.
	Active,
	/// By those who use it, and nobody else.
	UsedUp,
	/// By those who use it, and nobody else.
	Expired,
	/// By nobody.
	Revoked,
}

/// A token, without what makes it one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Token {
	/// Its id, `t_` and 8 characters: no secret.
	pub id: String,
	/// Can it still be used?
	pub status: TokenStatus,
	/// The tier that it gives.
	pub tier: String,
	/// What you call it.
	pub label: String,
	/// How many clients may use it; `null`: any number.
	pub max_uses: Option<u32>,
	/// How many do.
	pub uses: u32,
	/// No further client may use it from then on.
	pub expires_at: Option<Time>,
	/// When it was issued.
	pub created_at: Time,
	/// When it was revoked.
	pub revoked_at: Option<Time>,
}

impl Listed for Token {
	const NOUN: &'static str = "tokens";
}

/// A token and who uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TokenDetail {
	/// The token.
	#[serde(flatten)]
	pub token: Token,
	/// The clients that use it.
	pub clients: Vec<String>,
}

/// Issues a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
	/// The tier that it gives.
	pub tier: String,
	/// What you call it, at most 80 characters.
	#[serde(default)]
	pub label: String,
	/// How many clients may use it; any number if left out.
	#[serde(default)]
	pub max_uses: Option<u32>,
	/// For how long further clients may use it, in seconds; for ever if left out.
	#[serde(default)]
	pub expires_in_secs: Option<u64>,
}

/// A fresh token. The code is shown this once: the node keeps its hash.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IssuedToken {
	/// What the client has to show (LSPS1's and LSPS2's `token`).
	pub code: String,
	/// What is known of it from now on.
	#[serde(flatten)]
	pub token: Token,
}

/// Without the code.
impl std::fmt::Debug for IssuedToken {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.debug_struct("IssuedToken").field("token", &self.token).finish_non_exhaustive()
	}
}
