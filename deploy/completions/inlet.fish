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
complete -c inlet -n "__fish_inlet_needs_command" -f -a "clients" -d 'Clients'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "quote" -d 'What a channel would cost a client now'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "ledger" -d 'What was earned and spent'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "fees" -d 'The feerates in use and how old they are'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "storage" -d 'What was written to the disk, for what, and what that means for it'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "sync" -d 'Where the node stands with the chain'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "events" -d 'What happened, or happens'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "seed" -d 'The seed'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "config" -d 'The configuration'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "stop" -d 'Stop the node gracefully'
complete -c inlet -n "__fish_inlet_needs_command" -f -a "completions" -d 'Print a script that completes commands in a shell'
complete -c inlet -n "__fish_inlet_using_subcommand run" -l config -d 'The config file [default: inlet.toml in the data directory]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand run" -l listen -d 'Listen for peers here; may be repeated' -r
complete -c inlet -n "__fish_inlet_using_subcommand run" -l announce-addr -d 'Tell the network that the node is here; may be repeated' -r
complete -c inlet -n "__fish_inlet_using_subcommand run" -l chain -d 'esplora:URL[,URL...] or bitcoind:http://USER:PASS@HOST:PORT' -r
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
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and not __fish_seen_subcommand_from list" -f -a "list" -d 'List them (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand clients; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l client-balance -d 'The client\'s side (order only)' -r
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l expiry-blocks -d 'The lease, in blocks (order only) [default: the longest on offer]' -r
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l confirms-within -d 'How soon the funding should be mined, in blocks (order only)' -r
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l explain -d 'Show what the price is made of'
complete -c inlet -n "__fish_inlet_using_subcommand quote" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand quote" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and not __fish_seen_subcommand_from list" -f -a "list" -d 'List them (also without this word)'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -l limit -d 'How many' -r
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -l cursor -d 'Go on where the page before ended' -r
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand ledger; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand fees" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand fees" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand fees" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand fees" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand storage" -l rated-tbw -d 'What the disk is rated for, in terabytes written (TBW, from its data sheet)' -r
complete -c inlet -n "__fish_inlet_using_subcommand storage" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand storage" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand storage" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand storage" -s h -l help -d 'Print help (see more with \'--help\')'
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
complete -c inlet -n "__fish_inlet_using_subcommand seed; and not __fish_seen_subcommand_from show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand seed; and not __fish_seen_subcommand_from show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand seed; and not __fish_seen_subcommand_from show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and not __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and not __fish_seen_subcommand_from show" -f -a "show" -d 'Show the words, after a confirmation: who knows them has the money'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from show" -l data-dir -d 'Where everything is kept [default: ~/.inlet/NETWORK]' -r -F
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from show" -l network -d 'Which network: only this decides what a coin is worth [default: signet]' -r -f -a "mainnet\t'Real money'
signet\t'For tests, blocks are signed'
testnet4\t'For tests, fourth of its kind'
regtest\t'For tests, of one\'s own'"
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from show" -l yes -d 'Do not ask first'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from show" -l json -d 'Print what the API says, as JSON'
complete -c inlet -n "__fish_inlet_using_subcommand seed; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
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
