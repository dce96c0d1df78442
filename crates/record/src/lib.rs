//! RecordBatch v2, byte for byte Kafka's: the unit on disk, between brokers and to clients.
//!
//! ```text
//!  0            8         12        16    17     21          23            27          35
//!  ┌────────────┬─────────┬─────────┬─────┬──────┬───────────┬─────────────┬───────────┬──
//!  │ base       │ length  │ leader  │magic│ CRC- │attributes │ last offset │ first     │
//!  │ offset i64 │ i32     │epoch i32│ = 2 │ 32C  │ i16       │ delta i32   │ timestamp │
//!  └────────────┴─────────┴─────────┴─────┴──────┴───────────┴─────────────┴───────────┴──
//!  35          43          51         53         57          61
//!  ──┬──────────┬───────────┬──────────┬──────────┬──────────┬─────────────────────────
//!    │ max      │ producer  │ producer │ base     │ record   │ records, perhaps
//!    │ timestamp│ id i64    │ epoch i16│ sequence │ count i32│ compressed as a whole
//!  ──┴──────────┴───────────┴──────────┴──────────┴──────────┴─────────────────────────
//! ```
//!
//! The length counts what follows it. The CRC covers everything from the attributes on, so a leader
//! fills in base offset and leader epoch without touching the rest: the payload that a client
//! compressed is the payload that another one opens.
//!
//! A batch's way through the system, and who does what:
//!
//! 1. A client appends records to a [`BatchBuilder`] and closes it: a [`Batch`], perhaps
//!    [stamped](Batch::stamped) later.
//! 2. The leader checks the untrusted bytes with [`Batch::from_producer`] (one CRC pass, no
//!    allocation), walks the records with [`Batch::record_check`], then [assigns](Batch::assign)
//!    base offset and leader epoch.
//! 3. A follower, or a reader of the disk, checks with [`Batch::from_log`], and splits what holds
//!    several with [`split`](split()).
//! 4. A consumer [opens](Batch::open) it, under a limit, and iterates: borrowed ([`Records::iter`])
//!    or sharing the batch's buffer ([`Records::into_iter`]).
//!
//! What passes step 2 is read in full at step 4: that is tested for every codec and every changed
//! byte.
//!
//! Nothing here trusts a number from the wire: every length is checked against what is there before
//! it is used, no allocation is sized by a count, and decompression stops at a limit. What is wrong
//! is a typed error; nothing panics.
//!
//! | module | what |
//! | --- | --- |
//! | `header` | the 61 bytes, and the framing checks that every reader makes |
//! | `view` | a framed batch, borrowed or owned |
//! | `validate` | what is asked of a producer's batch, and of a stored one |
//! | `arrival` | what is asked of a producer's records |
//! | `patch` | fields that a leader or a producer fills in later; header-only batches |
//! | `split` | several batches one after another |
//! | `builder` | making a batch |
//! | `iter`, `varint` | reading its records |
//! | `compression` | how batches may be compressed, and how much of one is opened |
//! | `compress` | the four codecs, each a cargo feature of its name, all on by default |

mod arrival;
mod builder;
mod compress;
mod compression;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod header;
mod iter;
mod patch;
mod split;
mod validate;
mod varint;
mod view;

pub use arrival::{Checked, RecordCheck};
pub use builder::{BatchBuilder, HeaderRef, NewRecord};
pub use compression::{Compression, DEFAULT_OPENED_BYTES, MAX_OPENED_BYTES, UnknownCompression};
pub use error::{BatchError, BuildError, CompressionError, OpenError, ProducedError, RecordError};
pub use header::{Attributes, BatchHeader, HEADER_BYTES, MAGIC, MAX_RECORDS_PER_BATCH, MIN_RECORD_BYTES};
pub use iter::{HeaderIter, HeaderView, Headers, IntoRecords, Record, RecordIter, RecordView, Records};
pub use patch::EmptiedRange;
pub use split::{Split, split};
pub use view::{Batch, BatchView};
