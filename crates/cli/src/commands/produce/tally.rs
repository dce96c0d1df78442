//! What became of the records: how many, how large, and each kind of failure once.

use std::time::Duration;

use tidelog_client::Error;

/// Most kinds of failures that are told apart.
const MAX_KINDS: usize = 16;

/// Counts of one run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) acknowledged: u64,
    /// Of keys and values of acknowledged records.
    pub(super) bytes: u64,
    pub(super) failed: u64,
    kinds: Vec<Kind>,
    /// Failures of kinds beyond the bound.
    others: u64,
}

#[derive(Debug)]
struct Kind {
    /// The text without its numbers: a partition, an offset or a size makes no other kind.
    pattern: String,
    first: String,
    count: u64,
}

impl Tally {
    /// Notes an acknowledgement.
    pub(super) fn acknowledge(&mut self, bytes: u64) {
        self.acknowledged += 1;
        self.bytes += bytes;
    }

    /// Notes a failure. The sentence, if none like it was told before.
    pub(super) fn fail(&mut self, error: &Error) -> Option<String> {
        self.failed += 1;
        let text = error.to_string();
        let pattern = without_numbers(&text);
        if let Some(kind) = self.kinds.iter_mut().find(|kind| kind.pattern == pattern) {
            kind.count += 1;
            return None;
        }
        if self.kinds.len() >= MAX_KINDS {
            self.others += 1;
            return None;
        }
        self.kinds.push(Kind {
            pattern,
            first: text.clone(),
            count: 1,
        });
        Some(text)
    }

    /// How often each kind of failure came, where there is more than one.
    pub(super) fn kinds(&self) -> Vec<String> {
        if self.kinds.len() < 2 {
            return Vec::new();
        }
        let mut lines: Vec<String> = self
            .kinds
            .iter()
            .map(|kind| format!("{} record(s) failed like this: {}", kind.count, kind.first))
            .collect();
        if self.others > 0 {
            lines.push(format!("{} record(s) failed in other ways", self.others));
        }
        lines
    }

    /// The figures of the run.
    pub(super) fn figures(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64();
        format!(
            "{} record(s) acknowledged, {} failed, {} bytes in {seconds:.2} s ({:.0} records/s, {:.1} MB/s)",
            self.acknowledged,
            self.failed,
            self.bytes,
            self.acknowledged as f64 / seconds,
            self.bytes as f64 / seconds / 1e6,
        )
    }
}

fn without_numbers(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if !c.is_ascii_digit() => pattern.push(c),
            _ if pattern.ends_with('#') => {}
            _ => pattern.push('#'),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use tidelog_client::ErrorKind;

    use super::*;

    fn error(text: impl Into<String>) -> Error {
        Error::new(ErrorKind::TimedOut, text.into())
    }

    #[test]
    fn failures_alike_are_told_once_and_counted() {
        let mut tally = Tally::default();
        let told: Vec<String> = (0..500)
            .filter_map(|n| tally.fail(&error(format!("orders-{} does not answer", n % 6))))
            .collect();
        assert_eq!(told, ["orders-0 does not answer"]);
        assert!(tally.kinds().is_empty(), "the sum says it");
        assert!(tally.fail(&error("another")).is_some());
        assert_eq!(
            tally.kinds(),
            [
                "500 record(s) failed like this: orders-0 does not answer",
                "1 record(s) failed like this: another"
            ]
        );
        assert_eq!(tally.failed, 501);
    }

    #[test]
    fn kinds_are_bounded() {
        let mut tally = Tally::default();
        let text = |n: usize| "x".repeat(n + 1);
        let told = (0..100).filter_map(|n| tally.fail(&error(text(n)))).count();
        assert_eq!(told, MAX_KINDS);
        assert_eq!(
            tally.kinds().last().unwrap(),
            &format!("{} record(s) failed in other ways", 100 - MAX_KINDS)
        );
    }

    #[test]
    fn only_what_is_acknowledged_is_throughput() {
        let mut tally = Tally::default();
        tally.acknowledge(2_000_000);
        tally.fail(&error("no"));
        let figures = tally.figures(Duration::from_secs(2));
        assert_eq!(
            figures,
            "1 record(s) acknowledged, 1 failed, 2000000 bytes in 2.00 s (0 records/s, 1.0 MB/s)"
        );
    }
}
