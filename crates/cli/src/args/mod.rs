//! What the command line looks like: the parts that commands share. Each command's own flags stand
//! beside the command.

mod command;
mod connect;
mod examples;
mod moment;
mod names;

pub(crate) use command::{command, parse};
pub(crate) use connect::{ConnectFlags, DEFAULT_BOOTSTRAP};
pub(crate) use moment::{MOMENT_SYNTAX, looks_like_moment, moment};

/// The release, and the revision of the sources where it was known when the program was built.
pub(crate) const VERSION: &str = env!("TIDELOG_VERSION");

#[cfg(test)]
mod tests {
    use super::command::parse_from;
    use super::*;

    #[test]
    fn the_exit_codes_stand_in_the_help() {
        let help = command().render_help().to_string();
        assert!(
            help.contains("    5  unhealthy") && help.contains("  130  interrupted"),
            "{help}"
        );
    }

    #[test]
    fn every_word_of_the_manual_is_understood() {
        for line in [
            "server --node-id 1 --data-dir D --cluster 1=127.0.0.1:7172,2=127.0.0.1:7272 --listen 127.0.0.1:7171 \
             --listen out=0.0.0.0:9@host:9 --peer-listen 127.0.0.1:7172 --http-listen 127.0.0.1:7173 --check-config",
            "server --config f --print-config",
            "cluster health",
            "cluster health --local",
            "cluster health --local --http 127.0.0.1:1",
            "cluster status -o json --bootstrap a:1,b:2",
            "topic create flights --partitions 6 --replication-factor 3 --config retention.ms=1 --config a=b",
            "topic create flights -p 6 -r 3 -c retention.ms=1 --if-not-exists --dry-run",
            "topic list --internal -o wide",
            "topic describe flights -o json",
            "topic create flights -o json",
            "topic delete a b --timeout 3",
            "topic delete a -y -o json",
            "topic alter flights -c a=b -o json",
            "produce flights --key-delimiter \\t",
            "produce flights a.csv b.csv -k key -H a=b -H c=d -p 3 -z zstd --acks all --rate 100",
            "produce flights -K : --acks 1",
            "produce flights -i json -o json --client-id me --timeout 3",
            "produce flights a.bin --whole-file -k a.bin --max-request-size 2MiB",
            "produce flights -K : --header-delimiter \\t -Z --null-marker NULL --timestamp 1700000000000",
            "produce flights --linger 5 --batch-size 64KiB --max-request-size 1000000 --no-idempotence",
            "consume flights --group g --from beginning -n 1000 -o json",
            "consume flights -g g --instance-id a",
            "consume --topic-regex flights-.* --from latest",
            "consume flights --from beginning --until @1700000000000 --filter LHR --filter-key ^N --filter-header type=^a$",
            "consume flights trains -g g --from latest",
            "consume flights --from beginning --until-end",
            "consume flights --from 42 -p 0 -p 3 -o raw",
            "consume flights --from -1h",
            "consume flights --from @2026-11-30T14:00Z",
            "consume flights --from @1700000000000 -f %k:%v\\n",
            "bench produce bench -p 6 -r 3 --seconds 5 -n 100 --record-size 100 --in-flight 10 -z lz4 -o json",
            "bench produce --keep",
            "bench consume",
            "bench latency --rate 1000 --seconds 5 --warmup 0 -o json",
            "group list",
            "group describe g -o json",
            "group delete g h --yes -o json",
            "group reset-offsets g --to-datetime -2d -o json",
            "dev --port 9171",
            "log dump DIR --topic-id 67e55044-10b1-426f-9247-bb680e5fe0c8 --partition 3 -o json",
            "log dump DIR --records",
            "log dump DIR --records -f %k:%v\\n",
            "log verify DIR",
            "log stats DIR -o json",
            "completions bash",
        ] {
            let words = std::iter::once("tidelog").chain(line.split_whitespace());
            if let Err(error) = parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "server --check-config --print-config",
            "cluster health --http 127.0.0.1:1",
            "topic create",
            "topic create a -p 0",
            "topic create a -c retention.ms",
            "topic delete",
            "produce",
            "produce flights -k a -K b",
            "produce flights --acks 2",
            "produce flights --rate 0",
            "produce flights --whole-file -K :",
            "produce flights -i json -K :",
            "produce flights --max-request-size many",
            "produce flights --timestamp yesterday",
            "consume flights --from latest --instance-id a",
            "consume flights --from latest --filter (",
            "consume flights --from latest --filter-header =a",
            "consume flights --from latest --until-end --until @5",
            "consume --topic-regex ( -g g",
            "consume flights",
            "consume --from beginning",
            "consume flights --from yesterday",
            "consume flights --from -5",
            "dev --port 0",
            "consume flights -g g -p 1 --from beginning",
            "consume flights --from beginning -o json -f %v",
            "bench latency --rate 0",
            "log dump",
            "log dump DIR -f %v",
            "log dump DIR --records -f %q",
            "log dump DIR --topic-id 3",
            "completions tcl",
        ] {
            let words = std::iter::once("tidelog").chain(line.split_whitespace());
            assert!(parse_from(words).is_err(), "{line}");
        }
    }
}
