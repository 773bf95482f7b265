//! What `edge.toml` says about the box's lines: for the box itself, and for tools that test the lines on site.
//!
//! Absent on purpose: everything else of the box, which is the binary's own.

mod laid;
mod lines_file;
mod tls;
mod trunk_config;

pub use laid::{lay_over, read_overlay};
pub use lines_file::{LinesFile, PortRange, check_secret, read_secret, traces_dir};
pub use tls::{BoxCertificate, box_client as box_tls, client_of as tls_client, server_of as tls_server};
pub use trunk_config::TrunkList;
