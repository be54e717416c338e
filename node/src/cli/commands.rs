//! The commands and their arguments.

use super::units::{Amount, AmountOrAll, AmountOrAny, Feerate, PeerAddress, Seconds};
use crate::config::BackupPlace;
use crate::control::{DEFAULT_LIMIT, MAX_LIMIT};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
	/// Run the node
	Run(RunArgs),
	/// Is it up, is it safe, is it earning, what should I do?
	Status {
		/// Redraw it every few seconds
		#[arg(long)]
		watch: bool,
	},
	/// What this node is: its key, addresses, version
	Info,
	/// All money, on-chain and in channels
	Balance,
	/// A fresh address to send coins to
	Address,
	/// Send coins on-chain
	Send(SendArgs),
	/// The coins of the wallet
	Utxos(Listing),
	/// Peers: list, connect, disconnect
	Peers {
		/// What to do; `list` if left out.
		#[command(subcommand)]
		verb: Option<PeersCommand>,
	},
	/// Channels: list, show, open, close, force-close, policy
	Channels {
		/// What to do; `list` if left out.
		#[command(subcommand)]
		verb: Option<ChannelsCommand>,
	},
	/// Make a BOLT 11 invoice
	Invoice(InvoiceArgs),
	/// Pay a BOLT 11 invoice, a BOLT 12 offer, or a node (keysend)
	Pay(PayArgs),
	/// Make a BOLT 12 offer
	Offer(OfferArgs),
	/// Payments in and out: list, show
	Payments(Records),
	/// Channels ordered by clients (LSPS1): list, show
	Orders(Records),
	/// Channels sold just in time (LSPS2): list, show
	Sales(Records),
	/// Clients: list, show, set, clear
	Clients(Clients),
	/// Tokens that put clients into a tier: list, issue, show, revoke
	Tokens {
		/// What to do; `list` if left out.
		#[command(subcommand)]
		verb: Option<TokensCommand>,
	},
	/// What a channel would cost a client now
	Quote(QuoteArgs),
	/// Where your capital is, how many channels it still makes, and what idle channels keep of it
	Capital {
		/// What to do; the picture if left out.
		#[command(subcommand)]
		verb: Option<CapitalCommand>,
	},
	/// What was earned and spent: list, check, report, export
	Ledger(LedgerArgs),
	/// The feerates in use and how old they are
	Fees,
	/// What was written to the disk, for what, and what that means for it
	Storage(StorageArgs),
	/// The backup: status, init, now, verify
	Backup {
		/// What to do; `status` if left out.
		#[command(subcommand)]
		verb: Option<BackupCommand>,
	},
	/// Bring a node back from its backup, on a machine that has nothing of it
	Restore(RestoreArgs),
	/// Look at everything that can be wrong, and say what to do; also when the node is stopped
	Doctor(DoctorArgs),
	/// Where the node stands with the chain
	Sync,
	/// What happened, or happens
	Events(EventsArgs),
	/// The seed
	Seed {
		/// What to do.
		#[command(subcommand)]
		verb: SeedCommand,
	},
	/// The configuration
	Config {
		/// What to do.
		#[command(subcommand)]
		verb: ConfigCommand,
	},
	/// Stop the node gracefully
	Stop,
	/// Print a script that completes commands in a shell
	Completions {
		/// Which shell
		shell: Shell,
	},
}

/// `run`. What is left out comes from `INLET_*` variables, then the config file, then the defaults.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct RunArgs {
	/// The config file [default: inlet.toml in the data directory]
	#[arg(long, value_name = "FILE")]
	pub config: Option<PathBuf>,
	/// Listen for peers here; may be repeated
	#[arg(long, value_name = "HOST:PORT")]
	pub listen: Vec<String>,
	/// Tell the network that the node is here; may be repeated
	#[arg(long, value_name = "HOST:PORT")]
	pub announce_addr: Vec<String>,
	/// esplora:URL[,URL...], electrum:ssl://HOST:PORT or bitcoind:http://USER:PASS@HOST:PORT
	#[arg(long, value_name = "BACKEND")]
	pub chain: Option<String>,
	/// Name in the node announcement
	#[arg(long)]
	pub alias: Option<String>,
	/// Where the graph comes from: p2p, rgs:URL or none
	#[arg(long, value_name = "SOURCE")]
	pub gossip: Option<String>,
	/// error, warn, info, debug, trace, or levels by target
	#[arg(long, value_name = "LEVEL")]
	pub log_level: Option<String>,
	/// How log lines are written
	#[arg(long, value_name = "FORMAT")]
	pub log_format: Option<LogFormat>,
	/// Wait until no other node leads on the database, then take over (storage.backend = "postgres")
	#[arg(long)]
	pub standby: bool,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
	/// For people.
	Text,
	/// For programs.
	Json,
}

impl LogFormat {
	/// Its name, as in the config.
	pub fn as_str(self) -> &'static str {
		match self {
			LogFormat::Text => "text",
			LogFormat::Json => "json",
		}
	}
}

/// Which page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct PageArgs {
	/// How many
	#[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT as u64,
		value_parser = clap::value_parser!(u64).range(1..=MAX_LIMIT as u64))]
	pub limit: u64,
	/// Go on where the page before ended
	#[arg(long, value_name = "CURSOR")]
	pub cursor: Option<String>,
}

impl Default for PageArgs {
	fn default() -> Self {
		PageArgs { limit: DEFAULT_LIMIT as u64, cursor: None }
	}
}

/// A noun that can only be listed.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Listing {
	/// What to do; `list` if left out.
	#[command(subcommand)]
	pub verb: Option<ListCommand>,
	/// Without a verb.
	#[command(flatten)]
	pub page: PageArgs,
}

/// The one verb of a noun that can only be listed.
#[derive(Clone, Debug, Subcommand)]
pub enum ListCommand {
	/// List them (also without this word)
	List(PageArgs),
}

impl Listing {
	/// Which page.
	pub fn page(&self) -> &PageArgs {
		match &self.verb {
			Some(ListCommand::List(page)) => page,
			None => &self.page,
		}
	}
}

/// A noun that can be listed and shown.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Records {
	/// What to do; `list` if left out.
	#[command(subcommand)]
	pub verb: Option<RecordsCommand>,
	/// Without a verb.
	#[command(flatten)]
	pub page: PageArgs,
}

/// The verbs of a noun that can be listed and shown.
#[derive(Clone, Debug, Subcommand)]
pub enum RecordsCommand {
	/// List them, newest first (also without this word)
	List(PageArgs),
	/// Show one in full
	Show {
		/// Its id, or the beginning of it
		id: String,
	},
}

/// `send`.
#[derive(Clone, Debug, Args)]
pub struct SendArgs {
	/// Where to
	pub address: String,
	/// How much (250000sat, 0.01btc), or `all` that is free
	pub amount: AmountOrAll,
	/// Feerate, in sat/vB [default: for about six blocks]
	#[arg(long, value_name = "SAT/VB")]
	pub feerate: Option<Feerate>,
	/// Only say what it would cost
	#[arg(long)]
	pub dry_run: bool,
	/// Do not ask
	#[arg(long, short)]
	pub yes: bool,
}

/// `peers`.
#[derive(Clone, Debug, Subcommand)]
pub enum PeersCommand {
	/// List them (also without this word)
	List(PageArgs),
	/// Connect to one, now and after a restart
	Connect {
		/// PUBKEY@HOST:PORT
		peer: PeerAddress,
	},
	/// Disconnect one and do not connect to it again
	Disconnect {
		/// Its public key, or the beginning of it
		id: String,
	},
}

/// `channels`.
#[derive(Clone, Debug, Subcommand)]
pub enum ChannelsCommand {
	/// List them (also without this word)
	List(PageArgs),
	/// Show one in full
	Show {
		/// Its id, or the beginning of it
		id: String,
	},
	/// Open one
	Open(OpenArgs),
	/// Close one together with its peer
	Close(CloseArgs),
	/// Close one without its peer: the money comes back after a delay
	ForceClose(ForceCloseArgs),
	/// Set what forwarding over one costs
	Policy(PolicyArgs),
}

/// `channels open`.
#[derive(Clone, Debug, Args)]
pub struct OpenArgs {
	/// PUBKEY@HOST:PORT, or PUBKEY of a peer that is connected
	pub peer: PeerAddress,
	/// Its capacity
	pub capacity: Amount,
	/// Give this much of it to the peer, for nothing
	#[arg(long, value_name = "AMOUNT")]
	pub push: Option<Amount>,
	/// Tell the network of it, so that others route over it
	#[arg(long)]
	pub announce: bool,
	/// Feerate, in sat/vB [default: for about six blocks]
	#[arg(long, value_name = "SAT/VB")]
	pub feerate: Option<Feerate>,
	/// Do not ask
	#[arg(long, short)]
	pub yes: bool,
}

/// `channels force-close`. Its feerate is not for us to choose: the transaction is signed already, and bumped as needed.
#[derive(Clone, Debug, Args)]
pub struct ForceCloseArgs {
	/// Its id, or the beginning of it
	pub id: String,
	/// Even though a client has paid for it to stay open
	#[arg(long)]
	pub break_lease: bool,
	/// Do not ask
	#[arg(long, short)]
	pub yes: bool,
}

/// `channels close`.
#[derive(Clone, Debug, Args)]
pub struct CloseArgs {
	/// Its id, or the beginning of it
	pub id: String,
	/// Even though a client has paid for it to stay open
	#[arg(long)]
	pub break_lease: bool,
	/// Feerate, in sat/vB [default: the node's own]
	#[arg(long, value_name = "SAT/VB")]
	pub feerate: Option<Feerate>,
	/// Do not ask
	#[arg(long, short)]
	pub yes: bool,
}

/// `channels policy`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("terms").required(true).multiple(true).args(["base", "ppm", "cltv_delta"]))]
pub struct PolicyArgs {
	/// Its id, or the beginning of it
	pub id: String,
	/// Fixed part of the fee (1000msat)
	#[arg(long, value_name = "AMOUNT")]
	pub base: Option<Amount>,
	/// Share of the payment, in parts per million
	#[arg(long, value_name = "PPM")]
	pub ppm: Option<u32>,
	/// Blocks that a forward may take
	#[arg(long, value_name = "BLOCKS")]
	pub cltv_delta: Option<u16>,
}

/// `invoice`.
#[derive(Clone, Debug, Args)]
pub struct InvoiceArgs {
	/// How much, or `any` for what the payer likes
	pub amount: AmountOrAny,
	/// What for
	#[arg(long, short, default_value = "")]
	pub description: String,
	/// For how long it can be paid: 3600s, 60m, 1h, 7d [default: 1h]
	#[arg(long, value_name = "DURATION")]
	pub expiry: Option<Seconds>,
}

/// `offer`.
#[derive(Clone, Debug, Args)]
pub struct OfferArgs {
	/// How much, or `any` for what the payer likes
	#[arg(default_value = "any")]
	pub amount: AmountOrAny,
	/// What for
	#[arg(long, short, default_value = "")]
	pub description: String,
	/// For how long it can be paid: 60m, 24h, 7d [default: for ever]
	#[arg(long, value_name = "DURATION")]
	pub expiry: Option<Seconds>,
}

/// `pay`.
#[derive(Clone, Debug, Args)]
pub struct PayArgs {
	/// A BOLT 11 invoice, a BOLT 12 offer, or a node's public key
	pub to: String,
	/// How much, where `TO` leaves it open
	pub amount: Option<Amount>,
	/// The most that routing may cost
	#[arg(long, value_name = "AMOUNT")]
	pub max_fee: Option<Amount>,
	/// How long to wait for the outcome [default: 60s]
	#[arg(long, value_name = "DURATION")]
	pub wait: Option<Seconds>,
	/// Do not ask
	#[arg(long, short)]
	pub yes: bool,
}

/// `inlet storage`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct StorageArgs {
	/// What to do; without: what it has written
	#[command(subcommand)]
	pub verb: Option<StorageCommand>,
	/// What the disk is rated for, in terabytes written (TBW, from its data sheet)
	#[arg(long, value_name = "TB")]
	pub rated_tbw: Option<u32>,
}

/// `backup`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum BackupCommand {
	/// How far each target is (also without this word)
	Status,
	/// Make the targets in the configuration ready: once, with the disk mounted
	Init {
		/// Write there from here on, although another copy of this node did last: only if that one never runs again
		#[arg(long)]
		take_over: bool,
	},
	/// Make a new snapshot now
	Now,
	/// Be done with a target that the configuration does not name any more: say so on it, so that no channels are restored from it
	Forget {
		/// As a refused start names it; with its login, if that is not known here
		target: String,
		/// It cannot be reached to say so, and is destroyed: nobody will ever restore from it
		#[arg(long)]
		yes: bool,
	},
	/// Restore each target into a scratch directory, and look at what comes out
	Verify {
		/// Only this target
		#[arg(long, value_name = "TARGET")]
		from: Option<BackupPlace>,
	},
}

/// `restore`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct RestoreArgs {
	/// dir:/PATH, s3:https://KEYID:SECRET@HOST/BUCKET[/PREFIX]?region=REGION or webdav:https://USER:PASSWORD@HOST/PATH
	#[arg(long, value_name = "TARGET")]
	pub from: BackupPlace,
	/// A file with the 24 words [default: they are asked for]
	#[arg(long, value_name = "FILE")]
	pub seed_file: Option<PathBuf>,
	/// The backup may be old: give the channels up, have their peers close them, and take the coins
	#[arg(long)]
	pub recover_funds: bool,
	/// The old machine is gone, although it spoke a moment ago
	#[arg(long)]
	pub take_over: bool,
}

/// `storage`, but for the figures.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum StorageCommand {
	/// Write all of LDK's state as plain files, as lightning-persister's FilesystemStore reads them; the node must be stopped
	Export {
		/// A directory that does not exist yet
		#[arg(long, value_name = "DIR")]
		to: PathBuf,
	},
	/// Move a stopped node's state to another database, and compare
	Migrate(MigrateArgs),
}

/// `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct DoctorArgs {
	/// Start LDK on this copy (the doctor's own second process)
	#[arg(long, value_name = "DIR", hide = true)]
	pub trial: Option<PathBuf>,
}

/// `clients`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Clients {
	/// What to do; `list` if left out.
	#[command(subcommand)]
	pub verb: Option<ClientsCommand>,
	/// Without a verb.
	#[command(flatten)]
	pub page: PageArgs,
}

/// The verbs of `clients`.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientsCommand {
	/// List them (also without this word)
	List(PageArgs),
	/// Show one: its tier, what holds for it and why
	Show {
		/// Its node id, or the beginning of it
		id: String,
	},
	/// Set what holds for one, whatever its tier says
	Set(ClientSetArgs),
	/// Forget all that was set for one
	Clear {
		/// Its node id, or the beginning of it
		id: String,
	},
}

/// `clients set`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("settings").required(true).multiple(true))]
pub struct ClientSetArgs {
	/// Its node id; of a client that is known, the beginning will do
	pub id: String,
	/// Its tier, whatever it has earned
	#[arg(long, group = "settings")]
	pub tier: Option<String>,
	/// Sell nothing to it
	#[arg(long, conflicts_with = "allow", group = "settings")]
	pub block: bool,
	/// Sell to it although risk.only_allowed is set
	#[arg(long, group = "settings")]
	pub allow: bool,
	/// Largest payment that opens a channel for it
	#[arg(long, value_name = "AMOUNT", group = "settings")]
	pub max_payment: Option<Amount>,
	/// Largest channel of either kind
	#[arg(long, value_name = "AMOUNT", group = "settings")]
	pub max_channel: Option<Amount>,
	/// The share of the proportional fee that it pays, in millionths
	#[arg(long, value_name = "PPM", group = "settings")]
	pub fee_share: Option<u32>,
	/// Room beyond its payment, in millionths of it
	#[arg(long, value_name = "PPM", group = "settings")]
	pub headroom: Option<u32>,
	/// For you
	#[arg(long, group = "settings")]
	pub note: Option<String>,
}

/// The verbs of `tokens`.
#[derive(Clone, Debug, Subcommand)]
pub enum TokensCommand {
	/// List them, newest first (also without this word)
	List(PageArgs),
	/// Issue one; it is shown this once
	Issue {
		/// The tier that it gives
		#[arg(long)]
		tier: String,
		/// How many clients may use it [default: any number]
		#[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
		uses: Option<u32>,
		/// For how long further clients may use it (90s, 24h, 7d) [default: for ever]
		#[arg(long, value_name = "TIME")]
		expires: Option<Seconds>,
		/// What you call it
		#[arg(long, default_value = "")]
		label: String,
	},
	/// Show one and who uses it
	Show {
		/// Its id, or the beginning of it
		id: String,
	},
	/// Revoke one: who uses it falls back to the tier that it has earned
	Revoke {
		/// Its id, or the beginning of it
		id: String,
	},
}

/// `inlet storage migrate`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct MigrateArgs {
	/// Where it is
	#[arg(long, value_name = "BACKEND")]
	pub from: BackendArg,
	/// Where it is to be; there must be nothing yet
	#[arg(long, value_name = "BACKEND")]
	pub to: BackendArg,
}

/// A database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
	/// The file in the data directory.
	Sqlite,
	/// The server that storage.url names.
	Postgres,
}

/// `quote`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("how_much").required(true))]
pub struct QuoteArgs {
	/// The payment that opens it (jit), or our side of it (order)
	#[arg(group = "how_much")]
	pub size: Option<Amount>,
	/// Just in time (LSPS2) or on order (LSPS1)
	#[arg(value_enum, default_value = "jit", conflicts_with = "lsps1")]
	pub kind: QuoteKindArg,
	/// The same as SIZE
	#[arg(long = "size", value_name = "AMOUNT", group = "how_much")]
	pub size_flag: Option<Amount>,
	/// On order: the same as the word order
	#[arg(long)]
	pub lsps1: bool,
	/// For a client of this tier [default: new]
	#[arg(long, conflicts_with = "client")]
	pub tier: Option<String>,
	/// For this client
	#[arg(long, value_name = "NODE")]
	pub client: Option<String>,
	/// As if this were the live feerate, in sat/vB
	#[arg(long, value_name = "SAT/VB")]
	pub feerate: Option<Feerate>,
	/// The client's side (order only)
	#[arg(long, value_name = "AMOUNT")]
	pub client_balance: Option<Amount>,
	/// The lease, in blocks (order only) [default: the longest on offer]
	#[arg(long, value_name = "BLOCKS")]
	pub expiry_blocks: Option<u32>,
	/// How soon the funding should be mined, in blocks (order only)
	#[arg(long, value_name = "BLOCKS", alias = "blocks")]
	pub confirms_within: Option<u16>,
	/// Show what the price is made of
	#[arg(long)]
	pub explain: bool,
}

/// What kind of channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QuoteKindArg {
	/// Just in time (LSPS2).
	Jit,
	/// On order (LSPS1).
	Order,
}

/// `events`.
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
	/// Go on as they happen, until interrupted
	#[arg(long, short)]
	pub follow: bool,
	/// With --follow: begin after the event with this number
	#[arg(long, value_name = "ID", requires = "follow")]
	pub since: Option<u64>,
	/// How many
	#[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT as u64, conflicts_with = "follow",
		value_parser = clap::value_parser!(u64).range(1..=MAX_LIMIT as u64))]
	pub limit: u64,
	/// Go on where the page before ended
	#[arg(long, value_name = "CURSOR", conflicts_with = "follow")]
	pub cursor: Option<String>,
}

/// `seed`.
#[derive(Clone, Debug, Subcommand)]
pub enum SeedCommand {
	/// Show the words, after a confirmation: who knows them has the money
	Show {
		/// Do not ask first
		#[arg(long)]
		yes: bool,
	},
	/// Begin a node from its 24 words alone: finds the coins, and what closed channels paid
	Restore {
		/// A file with the 24 words [default: they are asked for]
		#[arg(long, value_name = "FILE")]
		seed_file: Option<PathBuf>,
	},
}

/// `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
	/// Is it right? Says which line is not
	Check {
		/// The config file [default: inlet.toml in the data directory]
		#[arg(long, value_name = "FILE")]
		config: Option<PathBuf>,
	},
}

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
	/// GNU Bash.
	Bash,
	/// Z shell.
	Zsh,
	/// The friendly one.
	Fish,
}

/// The ledger.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LedgerArgs {
	/// What to do; `list` if left out.
	#[command(subcommand)]
	pub verb: Option<LedgerCommand>,
	/// Without a verb.
	#[command(flatten)]
	pub page: PageArgs,
}

/// What can be done with the ledger.
#[derive(Clone, Debug, Subcommand)]
pub enum LedgerCommand {
	/// List them (also without this word)
	List(PageArgs),
	/// Compare it with what LDK and BDK say that there is; exits with 1 if they differ
	Check {
		/// Wait so many seconds for what is just being settled
		#[arg(long, value_name = "SECONDS", default_value_t = 5)]
		wait: u64,
	},
	/// What each client, channel, tier or month brought
	Report {
		/// What has a line
		#[arg(long, value_enum, default_value_t = ReportByArg::Client)]
		by: ReportByArg,
	},
	/// All of it, oldest first, for other programs
	Export {
		/// hledger's journal is read by ledger as well
		#[arg(long, value_enum, default_value_t = ExportFormat::Csv)]
		format: ExportFormat,
	},
}

/// What a report has a line for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportByArg {
	/// Each client.
	Client,
	/// Each channel.
	Channel,
	/// Each tier of clients.
	Tier,
	/// Each month.
	Month,
}

/// In which form the ledger is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
	/// One line for each posting.
	Csv,
	/// One entry a line.
	Json,
	/// A journal.
	Hledger,
}

/// What can be done with the capital.
#[derive(Clone, Debug, Subcommand)]
pub enum CapitalCommand {
	/// Bring it home from idle channels: first their clients are told, later they are closed
	Reclaim {
		/// Only show what would be done, and why
		#[arg(long)]
		dry_run: bool,
		/// Do not ask
		#[arg(long, conflicts_with = "dry_run")]
		yes: bool,
	},
}
