//! Examples for every command's `--help`. A test reads each of them as the program would.

/// The examples of a command, named by the words that lead to it.
pub(super) fn examples(path: &str) -> Option<&'static str> {
    let found = EXAMPLES.iter().find(|(of, _)| *of == path);
    found.map(|(_, text)| *text)
}

const EXAMPLES: &[(&str, &str)] = &[
    (
        "server",
        "  tidelog server --config /etc/tidelog.toml
  tidelog server --node-id 1 --data-dir /var/lib/tidelog --cluster 1=10.0.0.1:7172,2=10.0.0.2:7172,3=10.0.0.3:7172
  tidelog server --config /etc/tidelog.toml --check-config",
    ),
    (
        "dev",
        "  tidelog dev
  tidelog dev --brokers 1 --port 9171 --data-dir /tmp/tidelog-dev",
    ),
    (
        "topic create",
        "  tidelog topic create orders --partitions 6 --replication-factor 3
  tidelog topic create orders -p 6 -c max.message.bytes=4194304 --if-not-exists",
    ),
    (
        "topic list",
        "  tidelog topic list
  tidelog topic list --internal -o json",
    ),
    (
        "topic describe",
        "  tidelog topic describe orders
  tidelog topic describe orders -o json",
    ),
    (
        "topic alter",
        "  tidelog topic alter orders --config min.insync.replicas=2
  tidelog topic alter orders --delete-config max.message.bytes --dry-run",
    ),
    (
        "topic delete",
        "  tidelog topic delete orders
  tidelog topic delete orders payments --yes",
    ),
    (
        "produce",
        "  printf 'ada\\torder placed\\n' | tidelog produce orders --key-delimiter '\\t'
  tidelog produce orders orders-1.txt orders-2.txt --compression zstd",
    ),
    (
        "consume",
        "  tidelog consume orders --from beginning --until-end -o json
  tidelog consume orders --group inventory --from beginning
  tidelog consume orders --partition 0 --from -1h --format '%o %k %v\\n'",
    ),
    (
        "group list",
        "  tidelog group list
  tidelog group list -o json",
    ),
    (
        "group describe",
        "  tidelog group describe inventory
  tidelog group describe inventory -o wide",
    ),
    (
        "group lag",
        "  tidelog group lag
  tidelog group lag inventory payment -o wide",
    ),
    (
        "group reset-offsets",
        "  tidelog group reset-offsets inventory --to-datetime @2026-11-30T14:00Z
  tidelog group reset-offsets inventory --topic orders:0,1 --shift-by -100 --execute",
    ),
    (
        "group delete",
        "  tidelog group delete inventory
  tidelog group delete inventory payment --yes",
    ),
    (
        "cluster status",
        "  tidelog cluster status
  tidelog cluster status --bootstrap 10.0.0.1:7171,10.0.0.2:7171 -o json",
    ),
    (
        "cluster health",
        "  tidelog cluster health
  tidelog cluster health --local --http 127.0.0.1:7173",
    ),
    (
        "log dump",
        "  tidelog log dump /var/lib/tidelog
  tidelog log dump /var/lib/tidelog --records --format '%p/%o %k %v\\n'",
    ),
    (
        "log verify",
        "  tidelog log verify /var/lib/tidelog
  tidelog log verify /var/lib/tidelog --topic-id 67e55044-10b1-426f-9247-bb680e5fe0c8 --partition 3",
    ),
    (
        "log stats",
        "  tidelog log stats /var/lib/tidelog
  tidelog log stats /var/lib/tidelog -o json",
    ),
    (
        "bench produce",
        "  tidelog bench produce
  tidelog bench produce bench --seconds 10 --record-size 100 -o json",
    ),
    (
        "bench consume",
        "  tidelog bench consume
  tidelog bench consume bench -o json",
    ),
    (
        "bench latency",
        "  tidelog bench latency
  tidelog bench latency bench --rate 1000 --seconds 30 -o json",
    ),
    (
        "completions",
        "  source <(tidelog completions bash)
  tidelog completions fish > ~/.config/fish/completions/tidelog.fish",
    ),
];

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::super::command::{command, parse_from};
    use super::*;

    /// A line as a shell splits it, as far as examples need: blanks, and single quotes around
    /// words.
    pub(in super::super) fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (index, part) in line.split('\'').enumerate() {
            if index % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(ToOwned::to_owned));
            }
        }
        words
    }

    /// The part of an example that is this program's own.
    fn own(example: &str) -> Vec<String> {
        let from = example.find("tidelog ").unwrap_or_else(|| panic!("{example}"));
        let own = example[from..].split(" > ").next().unwrap_or_default();
        words(own.trim_end_matches(')'))
    }

    fn leaves(command: &clap::Command, path: &str, all: &mut BTreeSet<String>) {
        let mut subcommands = command
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help")
            .peekable();
        if subcommands.peek().is_none() {
            all.insert(path.to_owned());
        }
        for subcommand in subcommands {
            leaves(
                subcommand,
                format!("{path} {}", subcommand.get_name()).trim(),
                all,
            );
        }
    }

    #[test]
    fn every_command_has_two_examples_that_are_its_own_and_are_understood() {
        let mut all = BTreeSet::new();
        leaves(&command(), "", &mut all);
        let told: BTreeSet<String> = EXAMPLES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(all, told);
        for (path, text) in EXAMPLES {
            assert!(text.lines().count() >= 2, "{path}");
            for example in text.lines() {
                let words = own(example);
                assert!(words[1..].join(" ").starts_with(path), "{path}: {example}");
                if let Err(error) = parse_from(&words) {
                    panic!("{example}: {error}");
                }
            }
        }
    }
}
