//! An error that an application is told again and again.
//!
//! An application that calls for records in a loop and only logs what fails must not take a core by
//! it: the first call is answered at once, those after it at a pace that slows down to one a
//! second.

use tokio::time::Instant;

use crate::error::Error;

/// The error, and when it may be told next.
#[derive(Debug)]
pub(super) struct Repeated {
    error: Error,
    told: u32,
    not_before: Option<Instant>,
}

impl Repeated {
    pub(super) fn new(error: Error) -> Self {
        Self {
            error,
            told: 0,
            not_before: None,
        }
    }

    pub(super) fn error(&self) -> &Error {
        &self.error
    }

    /// The same trouble with a newer sentence keeps its pace; other trouble is told at once.
    pub(super) fn renew(&mut self, error: Error) {
        if self.error.kind() == error.kind() {
            self.error = error;
        } else {
            *self = Self::new(error);
        }
    }

    /// When it may be told; `None` if now.
    pub(super) fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|at| *at > now)
    }

    /// Tells it, if its time has come.
    pub(super) fn tell(&mut self, now: Instant) -> Option<Error> {
        if self.waits_until(now).is_some() {
            return None;
        }
        self.told = self.told.saturating_add(1);
        self.not_before = Some(now + crate::backoff::after(self.told));
        Some(self.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test(start_paused = true)]
    async fn it_is_told_at_once_and_then_at_a_pace_that_slows_down_to_one_a_second() {
        let mut repeated = Repeated::new(Error::new(ErrorKind::Closed, "over"));
        let (began, mut now, mut told) = (Instant::now(), Instant::now(), Vec::new());
        while told.len() < 9 {
            match repeated.waits_until(now) {
                Some(at) => now = at,
                None => {
                    assert!(repeated.tell(now).is_some());
                    assert!(repeated.tell(now).is_none());
                    told.push((now - began).as_millis());
                }
            }
        }
        assert_eq!(told, [0, 20, 60, 140, 300, 620, 1260, 2260, 3260]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_trouble_keeps_its_pace_and_other_trouble_does_not() {
        let now = Instant::now();
        let mut repeated = Repeated::new(Error::new(ErrorKind::Closed, "over"));
        assert!(repeated.tell(now).is_some());
        repeated.renew(Error::new(ErrorKind::Closed, "over, still"));
        assert!(repeated.tell(now).is_none());
        repeated.renew(Error::new(ErrorKind::Corrupt, "damaged"));
        assert_eq!(repeated.tell(now).unwrap().kind(), ErrorKind::Corrupt);
    }
}
