//! What a benchmark found.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::CommonFlags;
use crate::output::{self, Columns};

/// Longest latency that is told apart, microseconds: ten minutes.
const MAX_US: u64 = 600_000_000;

/// Latencies, with three significant digits.
pub(super) struct Latencies(Histogram<u64>);

/// The figures as programs get them. MB are 10^6 bytes of values.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) records: u64,
    pub(super) failed: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) records_per_second: f64,
    pub(super) mb_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency_ms: Option<LatencyFigures>,
}

/// Percentiles, milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct LatencyFigures {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
    /// How many records were timed.
    samples: u64,
}

impl Latencies {
    /// None yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, MAX_US, 3)?))
    }

    /// One more.
    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record((latency.as_micros() as u64).max(1));
    }

    pub(super) fn figures(&self) -> LatencyFigures {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        LatencyFigures {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1e3,
            samples: self.0.len(),
        }
    }
}

impl Figures {
    pub(super) fn new(records: u64, failed: u64, bytes: u64, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        Self {
            records,
            failed,
            bytes,
            seconds,
            records_per_second: records as f64 / seconds,
            mb_per_second: bytes as f64 / seconds / 1e6,
            latency_ms: None,
        }
    }

    pub(super) fn with_latencies(mut self, latencies: &Latencies) -> Self {
        self.latency_ms = Some(latencies.figures());
        self
    }

    /// Shows them.
    pub(super) fn show(&self, flags: &CommonFlags) -> Result<()> {
        output::show(flags.output.output, self, |_| self.columns())
    }

    fn columns(&self) -> Columns {
        let mut columns = Columns::new(&["FIGURE", "VALUE"]);
        let mut row = |name: &str, value: String| columns.row([name.to_owned(), value]);
        row("records", self.records.to_string());
        row("failed", self.failed.to_string());
        row("seconds", format!("{:.2}", self.seconds));
        row("records/s", format!("{:.0}", self.records_per_second));
        row("MB/s", format!("{:.1}", self.mb_per_second));
        if let Some(latency) = &self.latency_ms {
            let figures = [
                ("p50", latency.p50),
                ("p90", latency.p90),
                ("p99", latency.p99),
                ("p99.9", latency.p999),
                ("max", latency.max),
            ];
            for (name, value) in figures {
                row(&format!("latency {name}"), format!("{value:.2} ms"));
            }
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rates_and_percentiles() {
        let mut latencies = Latencies::new().unwrap();
        for ms in 1..=100 {
            latencies.record(Duration::from_millis(ms));
        }
        let figures = Figures::new(100, 0, 2_000_000, Duration::from_secs(2)).with_latencies(&latencies);
        let shown = serde_json::to_value(&figures).unwrap();
        assert_eq!(
            (&shown["records_per_second"], &shown["mb_per_second"]),
            (&50.0.into(), &1.0.into())
        );
        let p50 = shown["latency_ms"]["p50"].as_f64().unwrap();
        assert!((50.0..50.1).contains(&p50), "{p50}");
        assert_eq!(shown["latency_ms"]["samples"], 100);
        assert!(figures.columns().text().contains("latency p99.9"));
    }
}
