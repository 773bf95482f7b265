//! Keeps a box in the fleet, beside the calls that it carries and never in their way.
//!
//! - [`Identity`]: the box's key, the request for its certificate, the claim code on its label.
//! - [`keep`]: joins the fleet, holds the link, applies what the box should be, runs the updates, and says how
//!   it all stands. It ends with [`End::Switch`] when another version is to start.
//! - [`supervise`]: the launcher. It asks `edge/update` which slot starts, starts it, and does so again when it
//!   ends. It is no part of any version: it comes with the machine.
//! - [`Carrier`]: how the program that carries calls is started; the keeper's child, which it lets finish its calls
//!   before another version starts. [`Word`] and [`CallsState`] are what they say to each other.
//! - [`Sources`]: what the box knows of itself, masked, for people at headquarters or in front of it.
//! - [`PageConfig`]: the box's own page, for whoever stands before it.
//! - [`Clock`]: what time it is on a box whose battery is dead.
//!
//! The keeper is a process of its own with a link of its own (client id `{box}:keeper`): a fault in the sound
//! of a call cannot keep a box from being mended, and hashing an update costs no call its time slice.
//!
//! **Invariant:** the private key never leaves its file, which nobody but its owner can read, or its TPM, which nobody can.
//! **Invariant:** a wrong clock keeps no box from joining, and lets nobody in whom the authority did not sign.
//! **Invariant:** an order of headquarters is carried out once at most, whatever is repeated or restarted.
//! **Invariant:** no name, number to call, spoken word or secret leaves the box in a log or a bundle.
//! **Invariant:** what could not be applied is said with its place and its reason; the rest is applied.
//!
//! Absent on purpose: what is believed and when to switch (`shared/trust`, `edge/update`).

mod calls;
mod clock;
mod cloud;
mod config;
mod diag;
mod health;
mod identity;
mod keep;
mod key;
mod launcher;
mod link;
mod metrics;
mod ordered;
mod orders;
mod page;
mod parts;
mod redact;
mod settings;
mod tls;
mod updates;

pub use calls::{CallsState, Carrier, EchoDone, EchoWish, Figures, Word};
pub use clock::{BUILT, Clock};
pub use cloud::{Cloud, CloudError};
pub use config::{
    CallsConfig, CloudConfig, Config, ConfigError, KeyConfig, KeyStore, MetricsConfig, OrdersConfig,
    PageConfig, SelftestConfig, UpdatesConfig,
};
pub use diag::Sources;
pub use identity::{Identity, IdentityError};
pub use keep::{CALLS, End, KeepError, Running, keep};
pub use key::{KeyError, tls_key};
pub use launcher::{LaunchError, Launcher, SLOT_VARIABLE, SWITCH, VERSION_VARIABLE, supervise};
pub use settings::{Settings, read as read_settings};
