//! How the bytes of one connection are put into messages: pure.

use super::{Closing, spdy};
use crate::api::session::channel;

/// The data and the error channel or stream of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Frames {
    /// Messages that begin with their channel.
    Channels {
        /// Bytes of the connection.
        data: u8,
        /// Why it did not work.
        error: u8,
        /// Whether the end of one channel can be told.
        closing: Closing,
    },
    /// Frames of SPDY streams.
    Streams {
        /// Bytes of the connection.
        data: u32,
        /// Why it did not work.
        error: u32,
    },
}

impl Frames {
    pub(super) fn tell_closing(&self) -> bool {
        !matches!(self, Self::Channels { closing: Closing::WithTheSession, .. })
    }

    pub(super) fn data(&self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Channels { data, .. } => [&[*data], bytes].concat(),
            Self::Streams { data, .. } => spdy::data(*data, bytes, spdy::Last::No),
        }
    }

    pub(super) fn error(&self, text: &str) -> Vec<u8> {
        match self {
            Self::Channels { error, .. } => [&[*error], text.as_bytes()].concat(),
            Self::Streams { error, .. } => spdy::data(*error, text.as_bytes(), spdy::Last::No),
        }
    }

    /// The connection sends nothing more.
    pub(super) fn end_of_data(&self) -> Option<Vec<u8>> {
        match self {
            Self::Channels { data, closing: Closing::Told, .. } => Some(vec![channel::CLOSE, *data]),
            Self::Channels { .. } => None,
            Self::Streams { data, .. } => Some(spdy::data(*data, &[], spdy::Last::Yes)),
        }
    }

    /// The connection is over. An end that was told before may be told again.
    pub(super) fn ends(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Channels { data, error, closing: Closing::Told } => {
                vec![vec![channel::CLOSE, *error], vec![channel::CLOSE, *data]]
            }
            Self::Channels { .. } => Vec::new(),
            Self::Streams { data, error } => {
                [*error, *data].map(|stream| spdy::data(stream, &[], spdy::Last::Yes)).into()
            }
        }
    }
}
