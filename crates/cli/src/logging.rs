//! What the program logs: to standard error, which never makes it wait or end.
//!
//! A broker logs text on a terminal and JSON otherwise. A command shows the warnings of the client
//! that it uses, as lines for people.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, SubscriberBuilder};
use tracing_subscriber::registry::LookupSpan;

use crate::exit::Failure;
use crate::stderr::{self, Stderr};

/// What commands show of the log, unless the environment says otherwise.
const OF_A_COMMAND: &str = "warn";
/// Where the environment says it.
const VARIABLE: &str = "TIDELOG_LOG";

/// For a broker, by the filter of its configuration.
pub(crate) fn start(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!(
            "log.filter {filter:?} is no filter: {error}; write e.g. info,tidelog_broker=debug"
        ))
    })?;
    let builder = builder(filter);
    let started = if io::stderr().is_terminal() {
        stderr::set_notice(text_notice);
        builder.with_ansi(true).try_init()
    } else {
        stderr::set_notice(json_notice);
        builder.json().try_init()
    };
    started.map_err(|error| anyhow!("{error}"))
}

/// For a command: the warnings of what it uses, or what the environment asks for.
pub(crate) fn start_command() -> Result<()> {
    let filter = std::env::var(VARIABLE).unwrap_or_else(|_| OF_A_COMMAND.to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|error| {
        Failure::usage(format!(
            "{VARIABLE}={filter:?} is no filter: {error}; write e.g. warn,tidelog_client=debug"
        ))
    })?;
    let started = builder(filter).event_format(Plain).try_init();
    started.map_err(|error| anyhow!("{error}"))
}

fn builder(
    filter: EnvFilter,
) -> SubscriberBuilder<
    tracing_subscriber::fmt::format::DefaultFields,
    tracing_subscriber::fmt::format::Format,
    EnvFilter,
    fn() -> Stderr,
> {
    let writer: fn() -> Stderr = || Stderr;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would report by `eprintln!`, which panics where standard error is gone.
        .log_internal_errors(false)
        .with_writer(writer)
}

fn lost_lines(lost: u64) -> String {
    format!("{lost} line(s) of the log are lost here: standard error did not take them")
}

fn text_notice(lost: u64) -> Vec<u8> {
    format!("{}  WARN tidelog: {}\n", Timestamp::now(), lost_lines(lost)).into_bytes()
}

fn json_notice(lost: u64) -> Vec<u8> {
    let line = serde_json::json!({
        "timestamp": Timestamp::now().to_string(),
        "level": "WARN",
        "fields": { "message": lost_lines(lost), "lines": lost },
        "target": "tidelog",
    });
    format!("{line}\n").into_bytes()
}

/// `tidelog: warning: what happened (topic: orders, error: …)`, without times and targets: who runs
/// a command knows both.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        writeln!(writer, "{}", said.line(level))
    }
}

/// The parts of an event.
#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Said {
    fn line(&self, level: &str) -> String {
        let line = match self.fields.as_str() {
            "" => format!("tidelog: {level}: {}", self.message),
            fields => format!("tidelog: {level}: {} ({fields})", self.message),
        };
        // One event is one line, whatever stands in its fields.
        line.replace(['\n', '\r'], " ")
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
            return;
        }
        let comma = if self.fields.is_empty() { "" } else { ", " };
        let _ = write!(self.fields, "{comma}{}: {value:?}", field.name());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shown(act: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(OF_A_COMMAND))
            .event_format(Plain)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_command_shows_warnings_as_plain_lines_and_nothing_below() {
        let text = shown(|| {
            let error = "refused\nit";
            tracing::warn!(broker = 2, %error, "broker {} does not answer", 2);
            tracing::error!("it is over");
            tracing::info!("nobody asked");
        });
        assert_eq!(
            text,
            "tidelog: warning: broker 2 does not answer (broker: 2, error: refused it)\ntidelog: error: it is over\n"
        );
    }

    #[test]
    fn lost_lines_are_told_of_in_the_form_of_the_log() {
        let line: serde_json::Value = serde_json::from_slice(&json_notice(7)).unwrap();
        assert_eq!(
            (&line["level"], &line["fields"]["lines"]),
            (&"WARN".into(), &7.into())
        );
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        let text = String::from_utf8(text_notice(7)).unwrap();
        assert!(text.contains("WARN") && text.ends_with("take them\n"), "{text}");
    }
}
