# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_inlet_global_optspecs
    string join \n data-dir= network= json h/help V/version
end

function __fish_inlet_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_inlet_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_inlet_using_subcommand
    set -l cmd (__fish_inlet_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c inlet -n "__fish_inlet_needs_command" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_needs_command" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_needs_command" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_needs_command" -s V -l version -d 'Print version'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "run" -d 'Run the node'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "status" -d 'Is it up, is it safe, is it earning, what should I do?'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "info" -d 'What this node is: its key, addresses, version'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "balance" -d 'All money, on-chain and in channels'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "address" -d 'A fresh address to send coins to'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "send" -d 'Send coins on-chain'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "utxos" -d 'The coins of the wallet'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "peers" -d 'Peers: list, connect, disconnect'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "channels" -d 'Channels: list, show, open, close, force-close, policy'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "invoice" -d 'Make a BOLT 11 invoice'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "pay" -d 'Pay a BOLT 11 invoice, a BOLT 12 offer, or a node (keysend)'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "offer" -d 'Make a BOLT 12 offer'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "payments" -d 'Payments in and out: list, show'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "orders" -d 'Channels ordered by clients (LSPS1): list, show'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "sales" -d 'Channels sold just in time (LSPS2): list, show'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "clients" -d 'Clients: list, show, set, clear'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "tokens" -d 'Tokens that put clients into a tier: list, issue, show, revoke'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "quote" -d 'What a channel would cost a client now'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "capital" -d 'Where your capital is, how many channels it still makes, and what idle channels keep of it'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "ledger" -d 'What was earned and spent: list, check, report, export'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "fees" -d 'The feerates in use and how old they are'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "storage" -d 'What was written to the disk, for what, and what that means for it'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "backup" -d 'The backup: status, init, now, verify'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "restore" -d 'Bring a node back from its backup, on a machine that has nothing of it'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "doctor" -d 'Look at everything that can be wrong, and say what to do; also when the node is stopped'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "sync" -d 'Where the node stands with the chain'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "events" -d 'What happened, or happens'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "seed" -d 'The seed'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "config" -d 'The configuration'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "stop" -d 'Stop the node gracefully'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "completions" -d 'Print a script that completes commands in a shell'
complete -c inlet -n "__fish_inlet_using_subcommand run" -l config -d 'The config file [default: inlet.toml in the data directory]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand run" -l listen -d 'Listen for peers here; may be repeated' -r
complete -c inlet -n "__fish_inlet_using_subcommand run" -l announce-addr -d 'Tell the network that the node is here; may be repeated' -r
complete -c inlet -n "__fish_inlet_using_subcommand run" -l chain -d 'esplora:URL[,URL...], electrum:ssl://HOST:PORT or bitcoind:http://USER:PASS@HOST:PORT' -r
complete -c inlet -n "__fish_inlet_using_subcommand run" -l alias -d 'Name in the node announcement' -r
complete -c inlet -n "__fish_inlet_using_subcommand run" -l gossip -d 'Where the graph comes from: p2p, rgs:URL or none' -r
complete -c inlet -n "__fish_inlet_using_subcommand run" -l log-level -d 'error, warn, info, debug, trace, or levels by target' -r
complete -c inlet -n "__fish_inlet_using_subcommand run" -l log-format -d 'How log lines are written' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c inlet -n "__fish_inlet_using_subcommand run" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand run" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand run" -l standby -d 'Wait until no other node leads on the database, then take over (storage.backend = "postgres")'
complete -c inlet -n "__fish_inlet_using_subcommand run" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand status" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand status" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand status" -l watch -d 'Redraw it every few seconds'
complete -c inlet -n "__fish_inlet_using_subcommand status" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand info" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand info" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand info" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand info" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand balance" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand balance" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand balance" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand balance" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand address" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand address" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand address" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand address" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand send" -l feerate -d 'Feerate, in sat/vB [default: for about six blocks]' -r
complete -c inlet -n "__fish_inlet_using_subcommand send" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand send" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand send" -l dry-run -d 'Only say what it would cost'
complete -c inlet -n "__fish_inlet_using_subcommand send" -s y -l yes -d 'Do not ask'
complete -c inlet -n "__fish_inlet_using_subcommand send" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand send" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and not __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and not __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and not __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and not __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and not __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and not __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and not __fish_seen_subcommand_from list" -f -a "list" -d 'List them (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand utxos; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand peers; and not __fish_seen_subcommand_from list connect disconnect" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand peers; and not __fish_seen_subcommand_from list connect disconnect" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand peers; and not __fish_seen_subcommand_from list connect disconnect" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand peers; and not __fish_seen_subcommand_from list connect disconnect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand peers; and not __fish_seen_subcommand_from list connect disconnect" -f -a "list" -d 'List them (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand peers; and not __fish_seen_subcommand_from list connect disconnect" -f -a "connect" -d 'Connect to one, now and after a restart'
complete -c inlet -n "__fish_inlet_using_subcommand peers; and not __fish_seen_subcommand_from list connect disconnect" -f -a "disconnect" -d 'Disconnect one and do not connect to it again'
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from connect" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from connect" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from connect" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from connect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from disconnect" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from disconnect" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from disconnect" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand peers; and __fish_seen_subcommand_from disconnect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and not __fish_seen_subcommand_from list show open close force-close policy" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand channels; and not __fish_seen_subcommand_from list show open close force-close policy" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand channels; and not __fish_seen_subcommand_from list show open close force-close policy" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and not __fish_seen_subcommand_from list show open close force-close policy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and not __fish_seen_subcommand_from list show open close force-close policy" -f -a "list" -d 'List them (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and not __fish_seen_subcommand_from list show open close force-close policy" -f -a "show" -d 'Show one in full'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and not __fish_seen_subcommand_from list show open close force-close policy" -f -a "open" -d 'Open one'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and not __fish_seen_subcommand_from list show open close force-close policy" -f -a "close" -d 'Close one together with its peer'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and not __fish_seen_subcommand_from list show open close force-close policy" -f -a "force-close" -d 'Close one without its peer: the money comes back after a delay'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and not __fish_seen_subcommand_from list show open close force-close policy" -f -a "policy" -d 'Set what forwarding over one costs'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from open" -l push -d 'Give this much of it to the peer, for nothing' -r
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from open" -l feerate -d 'Feerate, in sat/vB [default: for about six blocks]' -r
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from open" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from open" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from open" -l announce -d 'Tell the network of it, so that others route over it'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from open" -s y -l yes -d 'Do not ask'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from open" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from open" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from close" -l feerate -d 'Feerate, in sat/vB [default: the node\'s own]' -r
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from close" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from close" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from close" -l break-lease -d 'Even though a client has paid for it to stay open'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from close" -s y -l yes -d 'Do not ask'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from close" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from close" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from force-close" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from force-close" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from force-close" -l break-lease -d 'Even though a client has paid for it to stay open'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from force-close" -s y -l yes -d 'Do not ask'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from force-close" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from force-close" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from policy" -l base -d 'Fixed part of the fee (1000msat)' -r
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from policy" -l ppm -d 'Share of the payment, in parts per million' -r
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from policy" -l cltv-delta -d 'Blocks that a forward may take' -r
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from policy" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from policy" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from policy" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand channels; and __fish_seen_subcommand_from policy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand invoice" -s d -l description -d 'What for' -r
complete -c inlet -n "__fish_inlet_using_subcommand invoice" -l expiry -d 'For how long it can be paid: 3600s, 60m, 1h, 7d [default: 1h]' -r
complete -c inlet -n "__fish_inlet_using_subcommand invoice" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand invoice" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand invoice" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand invoice" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand pay" -l max-fee -d 'The most that routing may cost' -r
complete -c inlet -n "__fish_inlet_using_subcommand pay" -l wait -d 'How long to wait for the outcome [default: 60s]' -r
complete -c inlet -n "__fish_inlet_using_subcommand pay" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand pay" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand pay" -s y -l yes -d 'Do not ask'
complete -c inlet -n "__fish_inlet_using_subcommand pay" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand pay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand offer" -s d -l description -d 'What for' -r
complete -c inlet -n "__fish_inlet_using_subcommand offer" -l expiry -d 'For how long it can be paid: 60m, 24h, 7d [default: for ever]' -r
complete -c inlet -n "__fish_inlet_using_subcommand offer" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand offer" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand offer" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand offer" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand payments; and not __fish_seen_subcommand_from list show" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand payments; and not __fish_seen_subcommand_from list show" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand payments; and not __fish_seen_subcommand_from list show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand payments; and not __fish_seen_subcommand_from list show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand payments; and not __fish_seen_subcommand_from list show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand payments; and not __fish_seen_subcommand_from list show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand payments; and not __fish_seen_subcommand_from list show" -f -a "list" -d 'List them, newest first (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand payments; and not __fish_seen_subcommand_from list show" -f -a "show" -d 'Show one in full'
complete -c inlet -n "__fish_inlet_using_subcommand payments; and __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand payments; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand payments; and __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand payments; and __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand payments; and __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand payments; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand payments; and __fish_seen_subcommand_from show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand payments; and __fish_seen_subcommand_from show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand payments; and __fish_seen_subcommand_from show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand payments; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand orders; and not __fish_seen_subcommand_from list show" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand orders; and not __fish_seen_subcommand_from list show" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand orders; and not __fish_seen_subcommand_from list show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand orders; and not __fish_seen_subcommand_from list show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand orders; and not __fish_seen_subcommand_from list show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand orders; and not __fish_seen_subcommand_from list show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand orders; and not __fish_seen_subcommand_from list show" -f -a "list" -d 'List them, newest first (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand orders; and not __fish_seen_subcommand_from list show" -f -a "show" -d 'Show one in full'
complete -c inlet -n "__fish_inlet_using_subcommand orders; and __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand orders; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand orders; and __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand orders; and __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand orders; and __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand orders; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand orders; and __fish_seen_subcommand_from show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand orders; and __fish_seen_subcommand_from show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand orders; and __fish_seen_subcommand_from show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand orders; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand sales; and not __fish_seen_subcommand_from list show" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand sales; and not __fish_seen_subcommand_from list show" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand sales; and not __fish_seen_subcommand_from list show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand sales; and not __fish_seen_subcommand_from list show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand sales; and not __fish_seen_subcommand_from list show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand sales; and not __fish_seen_subcommand_from list show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand sales; and not __fish_seen_subcommand_from list show" -f -a "list" -d 'List them, newest first (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand sales; and not __fish_seen_subcommand_from list show" -f -a "show" -d 'Show one in full'
complete -c inlet -n "__fish_inlet_using_subcommand sales; and __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand sales; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand sales; and __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand sales; and __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand sales; and __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand sales; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand sales; and __fish_seen_subcommand_from show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand sales; and __fish_seen_subcommand_from show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand sales; and __fish_seen_subcommand_from show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand sales; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list show set clear" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list show set clear" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list show set clear" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list show set clear" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list show set clear" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list show set clear" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list show set clear" -f -a "list" -d 'List them (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list show set clear" -f -a "show" -d 'Show one: its tier, what holds for it and why'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list show set clear" -f -a "set" -d 'Set what holds for one, whatever its tier says'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list show set clear" -f -a "clear" -d 'Forget all that was set for one'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -l tier -d 'Its tier, whatever it has earned' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -l max-payment -d 'Largest payment that opens a channel for it' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -l max-channel -d 'Largest channel of either kind' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -l fee-share -d 'The share of the proportional fee that it pays, in millionths' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -l headroom -d 'Room beyond its payment, in millionths of it' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -l note -d 'For you' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -l block -d 'Sell nothing to it'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -l allow -d 'Sell to it although risk.only_allowed is set'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from clear" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from clear" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from clear" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from clear" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and not __fish_seen_subcommand_from list issue show revoke" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and not __fish_seen_subcommand_from list issue show revoke" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and not __fish_seen_subcommand_from list issue show revoke" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and not __fish_seen_subcommand_from list issue show revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and not __fish_seen_subcommand_from list issue show revoke" -f -a "list" -d 'List them, newest first (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and not __fish_seen_subcommand_from list issue show revoke" -f -a "issue" -d 'Issue one; it is shown this once'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and not __fish_seen_subcommand_from list issue show revoke" -f -a "show" -d 'Show one and who uses it'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and not __fish_seen_subcommand_from list issue show revoke" -f -a "revoke" -d 'Revoke one: who uses it falls back to the tier that it has earned'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from issue" -l tier -d 'The tier that it gives' -r
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from issue" -l uses -d 'How many clients may use it [default: any number]' -r
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from issue" -l expires -d 'For how long further clients may use it (90s, 24h, 7d) [default: for ever]' -r
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from issue" -l label -d 'What you call it' -r
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from issue" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from issue" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from issue" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from issue" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l size -d 'The same as SIZE' -r
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l tier -d 'For a client of this tier [default: new]' -r
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l client -d 'For this client' -r
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l feerate -d 'As if this were the live feerate, in sat/vB' -r
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l client-balance -d 'The client\'s side (order only)' -r
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l expiry-blocks -d 'The lease, in blocks (order only) [default: the longest on offer]' -r
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l confirms-within -d 'How soon the funding should be mined, in blocks (order only)' -r
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l lsps1 -d 'On order: the same as the word order'
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l explain -d 'Show what the price is made of'
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand quote" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand capital; and not __fish_seen_subcommand_from reclaim" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand capital; and not __fish_seen_subcommand_from reclaim" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand capital; and not __fish_seen_subcommand_from reclaim" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand capital; and not __fish_seen_subcommand_from reclaim" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand capital; and not __fish_seen_subcommand_from reclaim" -f -a "reclaim" -d 'Bring it home from idle channels: first their clients are told, later they are closed'
complete -c inlet -n "__fish_inlet_using_subcommand capital; and __fish_seen_subcommand_from reclaim" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand capital; and __fish_seen_subcommand_from reclaim" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand capital; and __fish_seen_subcommand_from reclaim" -l dry-run -d 'Only show what would be done, and why'
complete -c inlet -n "__fish_inlet_using_subcommand capital; and __fish_seen_subcommand_from reclaim" -l yes -d 'Do not ask'
complete -c inlet -n "__fish_inlet_using_subcommand capital; and __fish_seen_subcommand_from reclaim" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand capital; and __fish_seen_subcommand_from reclaim" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list check report export" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list check report export" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list check report export" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list check report export" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list check report export" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list check report export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list check report export" -f -a "list" -d 'List them (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list check report export" -f -a "check" -d 'Compare it with what LDK and BDK say that there is; exits with 1 if they differ'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list check report export" -f -a "report" -d 'What each client, channel, tier or month brought'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list check report export" -f -a "export" -d 'All of it, oldest first, for other programs'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from check" -l wait -d 'Wait so many seconds for what is just being settled' -r
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from check" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from check" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from check" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from report" -l by -d 'What has a line' -r -f -a "client\t'Each client'
channel\t'Each channel'
tier\t'Each tier of clients'
month\t'Each month'"
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from report" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from report" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from report" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from export" -l format -d 'hledger\'s journal is read by ledger as well' -r -f -a "csv\t'One line for each posting'
json\t'One entry a line'
hledger\t'A journal'"
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from export" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from export" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from export" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand fees" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand fees" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand fees" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand fees" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand storage; and not __fish_seen_subcommand_from export migrate" -l rated-tbw -d 'What the disk is rated for, in terabytes written (TBW, from its data sheet)' -r
complete -c inlet -n "__fish_inlet_using_subcommand storage; and not __fish_seen_subcommand_from export migrate" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand storage; and not __fish_seen_subcommand_from export migrate" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand storage; and not __fish_seen_subcommand_from export migrate" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand storage; and not __fish_seen_subcommand_from export migrate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand storage; and not __fish_seen_subcommand_from export migrate" -f -a "export" -d 'Write all of LDK\'s state as plain files, as lightning-persister\'s FilesystemStore reads them; the node must be stopped'
complete -c inlet -n "__fish_inlet_using_subcommand storage; and not __fish_seen_subcommand_from export migrate" -f -a "migrate" -d 'Move a stopped node\'s state to another database, and compare'
complete -c inlet -n "__fish_inlet_using_subcommand storage; and __fish_seen_subcommand_from export" -l to -d 'A directory that does not exist yet' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand storage; and __fish_seen_subcommand_from export" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand storage; and __fish_seen_subcommand_from export" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand storage; and __fish_seen_subcommand_from export" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand storage; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand storage; and __fish_seen_subcommand_from migrate" -l from -d 'Where it is' -r -f -a "sqlite\t'The file in the data directory'
postgres\t'The server that storage.url names'"
complete -c inlet -n "__fish_inlet_using_subcommand storage; and __fish_seen_subcommand_from migrate" -l to -d 'Where it is to be; there must be nothing yet' -r -f -a "sqlite\t'The file in the data directory'
postgres\t'The server that storage.url names'"
complete -c inlet -n "__fish_inlet_using_subcommand storage; and __fish_seen_subcommand_from migrate" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand storage; and __fish_seen_subcommand_from migrate" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand storage; and __fish_seen_subcommand_from migrate" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand storage; and __fish_seen_subcommand_from migrate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and not __fish_seen_subcommand_from status init now forget verify" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand backup; and not __fish_seen_subcommand_from status init now forget verify" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand backup; and not __fish_seen_subcommand_from status init now forget verify" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and not __fish_seen_subcommand_from status init now forget verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and not __fish_seen_subcommand_from status init now forget verify" -f -a "status" -d 'How far each target is (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and not __fish_seen_subcommand_from status init now forget verify" -f -a "init" -d 'Make the targets in the configuration ready: once, with the disk mounted'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and not __fish_seen_subcommand_from status init now forget verify" -f -a "now" -d 'Make a new snapshot now'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and not __fish_seen_subcommand_from status init now forget verify" -f -a "forget" -d 'Be done with a target that the configuration does not name any more: say so on it, so that no channels are restored from it'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and not __fish_seen_subcommand_from status init now forget verify" -f -a "verify" -d 'Restore each target into a scratch directory, and look at what comes out'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from status" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from status" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from status" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from init" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from init" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from init" -l take-over -d 'Write there from here on, although another copy of this node did last: only if that one never runs again'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from init" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from now" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from now" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from now" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from now" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from forget" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from forget" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from forget" -l yes -d 'It cannot be reached to say so, and is destroyed: nobody will ever restore from it'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from forget" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from forget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from verify" -l from -d 'Only this target' -r
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from verify" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from verify" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from verify" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand backup; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand restore" -l from -d 'dir:/PATH, s3:https://KEYID:SECRET@HOST/BUCKET[/PREFIX]?region=REGION or webdav:https://USER:PASSWORD@HOST/PATH' -r
complete -c inlet -n "__fish_inlet_using_subcommand restore" -l seed-file -d 'A file with the 24 words [default: they are asked for]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand restore" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand restore" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand restore" -l recover-funds -d 'The backup may be old: give the channels up, have their peers close them, and take the coins'
complete -c inlet -n "__fish_inlet_using_subcommand restore" -l take-over -d 'The old machine is gone, although it spoke a moment ago'
complete -c inlet -n "__fish_inlet_using_subcommand restore" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand doctor" -l trial -d 'Start LDK on this copy (the doctor\'s own second process)' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand doctor" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand doctor" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand doctor" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand sync" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand sync" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand sync" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand sync" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand events" -l since -d 'With --follow: begin after the event with this number' -r
complete -c inlet -n "__fish_inlet_using_subcommand events" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand events" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand events" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand events" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand events" -s f -l follow -d 'Go on as they happen, until interrupted'
complete -c inlet -n "__fish_inlet_using_subcommand events" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand events" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and not __fish_seen_subcommand_from show restore" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand seed; and not __fish_seen_subcommand_from show restore" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand seed; and not __fish_seen_subcommand_from show restore" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and not __fish_seen_subcommand_from show restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and not __fish_seen_subcommand_from show restore" -f -a "show" -d 'Show the words, after a confirmation: who knows them has the money'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and not __fish_seen_subcommand_from show restore" -f -a "restore" -d 'Begin a node from its 24 words alone: finds the coins, and what closed channels paid'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from show" -l yes -d 'Do not ask first'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from restore" -l seed-file -d 'A file with the 24 words [default: they are asked for]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from restore" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from restore" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from restore" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand config; and not __fish_seen_subcommand_from check" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand config; and not __fish_seen_subcommand_from check" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand config; and not __fish_seen_subcommand_from check" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand config; and not __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand config; and not __fish_seen_subcommand_from check" -f -a "check" -d 'Is it right? Says which line is not'
complete -c inlet -n "__fish_inlet_using_subcommand config; and __fish_seen_subcommand_from check" -l config -d 'The config file [default: inlet.toml in the data directory]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand config; and __fish_seen_subcommand_from check" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand config; and __fish_seen_subcommand_from check" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand config; and __fish_seen_subcommand_from check" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand stop" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand stop" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand stop" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand completions" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand completions" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand completions" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
