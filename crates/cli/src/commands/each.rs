//! The same done to several things: all of them, whatever becomes of the others, and what became of
//! each is said.

use anyhow::Result;
use serde::Serialize;

use crate::exit::{self, Failure};
use crate::output::{self, OutputFormat};

/// What became of several things of one kind.
pub(crate) struct Each {
    /// What they are, in the singular.
    kind: &'static str,
    /// What was to become of them.
    done: &'static str,
    output: OutputFormat,
    results: Vec<Shown>,
    /// Why the first that failed did.
    failed: Option<anyhow::Error>,
}

/// One of them, as programs get it.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    done: bool,
    /// Why not.
    error: Option<String>,
}

impl Each {
    /// Of a kind, and what is done to them: "topic", "deleted".
    pub(crate) fn new(kind: &'static str, done: &'static str, output: OutputFormat) -> Self {
        Self {
            kind,
            done,
            output,
            results: Vec::new(),
            failed: None,
        }
    }

    /// What became of one of them.
    pub(crate) fn note(&mut self, name: &str, result: Result<()>) {
        let error = result.as_ref().err().map(|error| exit::told(error).1);
        self.results.push(Shown {
            name: name.to_owned(),
            done: error.is_none(),
            error,
        });
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }

    /// Says what became of each. Fails, with the exit code of the first that failed, unless all
    /// succeeded.
    pub(crate) fn finish(mut self) -> Result<()> {
        let failed = self.failed.take();
        if self.output == OutputFormat::Json {
            output::json_line(&self.results)?;
        } else if self.results.len() > 1 || failed.is_none() {
            self.results.iter().for_each(|result| self.say(result));
        }
        let Some(error) = failed else {
            return Ok(());
        };
        let (all, kind, done) = (self.results.len(), self.kind, self.done);
        if all == 1 {
            return Err(error);
        }
        let count = self.results.iter().filter(|result| !result.done).count();
        let text = format!("{count} of {all} {kind}s were not {done}");
        Err(Failure::new(exit::told(&error).0, text).into())
    }

    fn say(&self, result: &Shown) {
        let (kind, name, done) = (self.kind, &result.name, self.done);
        match &result.error {
            None => crate::tell!("{kind} {name} {done}"),
            Some(why) => crate::tell!("{kind} {name} not {done}: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn failure(code: Exit) -> Result<()> {
        Err(Failure::new(code, "why").into())
    }

    #[test]
    fn the_first_failure_gives_the_code_and_all_are_counted() {
        let mut each = Each::new("topic", "deleted", OutputFormat::Table);
        each.note("a", Ok(()));
        each.note("b", failure(Exit::NotFound));
        each.note("c", failure(Exit::Failed));
        let (code, text) = exit::told(&each.finish().unwrap_err());
        assert_eq!(
            (code, text.as_str()),
            (Exit::NotFound, "2 of 3 topics were not deleted")
        );
    }

    #[test]
    fn one_alone_fails_as_itself() {
        let mut each = Each::new("topic", "deleted", OutputFormat::Table);
        each.note("a", failure(Exit::NotFound));
        assert_eq!(
            exit::told(&each.finish().unwrap_err()),
            (Exit::NotFound, "why".to_owned())
        );
    }

    #[test]
    fn without_a_failure_it_succeeds() {
        let mut each = Each::new("group", "deleted", OutputFormat::Table);
        each.note("a", Ok(()));
        assert!(each.finish().is_ok());
    }
}
