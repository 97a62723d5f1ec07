//! JSON text to what a worker means by it.
//!
//! Job: tell messages of the protocol's from those of the app's, and read the fields of the former, tolerant of
//! every oddity of type that Node, Deno and Bun workers have shown. Fields are borrowed and stay unparsed until
//! somebody asks; messages of the app's are never parsed further.
//!
//! Must not know: what the primary makes of it.

use super::message::{AddressType, HandleKind, Listening, Query, Sockname};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The prefix of the protocol's own `cmd`s.
const INTERNAL: &str = "NODE_";

/// Whether `text` is a message of the protocol's; if so, its fields and its `cmd`.
///
/// `None` for everything else, invalid JSON included.
pub(super) fn internal(text: &str) -> Option<(Cow<'_, str>, Fields<'_>)> {
    // Most messages of apps are sorted out here, in one quick look; an escaped letter is the exception.
    if !text.contains(INTERNAL) && !text.contains("\\u") {
        return None;
    }
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let fields: Fields<'_> = serde_json::from_str(text).ok()?;
    let cmd = fields.cmd.and_then(string)?;
    (cmd.len() > INTERNAL.len() && cmd.starts_with(INTERNAL)).then_some((cmd, fields))
}

macro_rules! fields {
    ($($name:ident = $wire:literal,)*) => {
        /// The top-level fields that somebody looks at, unparsed. Of a repeated one the last, as in JavaScript.
        #[derive(Debug, Default, Clone, Copy)]
        pub(super) struct Fields<'a> {
            $(pub(super) $name: Option<&'a RawValue>,)*
        }

        #[expect(non_camel_case_types, reason = "named like the fields")]
        enum Name {
            $($name,)*
            Other,
        }

        impl Name {
            fn of(wire: &[u8]) -> Self {
                $(if wire == $wire.as_bytes() {
                    return Self::$name;
                })*
                Self::Other
            }
        }

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key_seed(NameSeed)? {
                    match name {
                        $(Name::$name => fields.$name = Some(map.next_value()?),)*
                        Name::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }
    };
}

fields! {
    cmd = "cmd",
    act = "act",
    seq = "seq",
    ack = "ack",
    accepted = "accepted",
    key = "key",
    kind = "type",
    msg = "msg",
    dgram_type = "dgramType",
    index = "index",
    address = "address",
    port = "port",
    address_type = "addressType",
    fd = "fd",
    flags = "flags",
    backlog = "backlog",
    readable_all = "readableAll",
    writable_all = "writableAll",
    data = "data",
    everup = "everup",
    total = "total",
    errno = "errno",
    sockname = "sockname",
    family = "family",
}

struct FieldsVisitor;

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Reads a name as bytes: JavaScript's strings may hold lone surrogates, which are not UTF-8.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(Name::of(name.as_bytes()))
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Name, E> {
        Ok(Name::of(name))
    }
}

impl Fields<'_> {
    /// `None`: no reply to it could be matched, so it is not worth one.
    pub(super) fn query(&self) -> Option<Query> {
        let seq = self.seq.and_then(unsigned)?;
        let place = self.place().unwrap_or(Place {
            address: None,
            port: None,
            address_type: AddressType::Descriptor,
            fd: None,
        });
        Some(Query {
            seq,
            index: self.index.and_then(unsigned).unwrap_or(0),
            address: place.address,
            port: place.port,
            address_type: place.address_type,
            fd: place.fd,
            flags: self
                .flags
                .and_then(unsigned)
                .and_then(|flags| u32::try_from(flags).ok())
                .unwrap_or(0),
            backlog: self.backlog.and_then(unsigned).and_then(backlog),
            readable_all: self.readable_all.is_some_and(truth),
            writable_all: self.writable_all.is_some_and(truth),
            data: self.data.filter(|data| !is_null(data)).map(RawValue::to_owned),
        })
    }

    pub(super) fn listening(&self) -> Listening {
        let address_type = self.family().unwrap_or(AddressType::Descriptor);
        Listening {
            address: self.address.and_then(string).map(Cow::into_owned),
            port: self
                .port
                .and_then(unsigned)
                .and_then(|port| u16::try_from(port).ok()),
            address_type,
            fd: self.descriptor().unwrap_or_default(),
        }
    }

    /// The place of a query. `None` if it makes no sense.
    fn place(&self) -> Option<Place> {
        let address_type = self.family()?;
        let fd = self.descriptor()?;
        let address = match self.address {
            Some(address) if !is_null(address) => Some(string(address)?.into_owned()),
            _ => None,
        };
        let port = self.port.filter(|port| !is_null(port));
        let port = match address_type {
            // Node 18 and older ask like this for `listen(handle)`.
            AddressType::Unix if address.is_none() => return None,
            AddressType::Unix | AddressType::Descriptor => None,
            AddressType::Tcp4 | AddressType::Tcp6 | AddressType::Udp4 | AddressType::Udp6 => match port {
                // `socket.bind()` leaves it out.
                None => Some(0),
                Some(port) => Some(number_text(port)?.parse().ok()?),
            },
        };
        Some(Place {
            address,
            port,
            address_type,
            fd,
        })
    }

    /// `None` if it is none of those known.
    fn family(&self) -> Option<AddressType> {
        Some(match self.address_type.map_or("null", RawValue::get) {
            "4" => AddressType::Tcp4,
            "6" => AddressType::Tcp6,
            "-1" => AddressType::Unix,
            "null" => AddressType::Descriptor,
            r#""udp4""# => AddressType::Udp4,
            r#""udp6""# => AddressType::Udp6,
            _ => return None,
        })
    }

    /// `None` if it makes no sense; `Some(None)` if there is none.
    fn descriptor(&self) -> Option<Option<i32>> {
        match self.fd.map(RawValue::get) {
            None | Some("null") => Some(None),
            Some(text) => text.parse::<i32>().ok().map(|fd| (fd >= 0).then_some(fd)),
        }
    }

    /// The kind of handle in an envelope; `None` if it is not known.
    pub(super) fn handle_kind(&self) -> Option<HandleKind> {
        Some(match self.kind.and_then(string)?.as_ref() {
            "net.Server" => HandleKind::Server,
            "net.Socket" => HandleKind::Socket,
            "dgram.Socket" => match self.dgram_type.map(RawValue::get) {
                Some(r#""udp6""#) => HandleKind::Udp6,
                _ => HandleKind::Udp4,
            },
            "net.Native" => HandleKind::NativeStream,
            "dgram.Native" => HandleKind::NativeDatagram,
            _ => return None,
        })
    }
}

/// Where a worker wants to listen.
struct Place {
    address: Option<String>,
    port: Option<u16>,
    address_type: AddressType,
    fd: Option<i32>,
}

fn backlog(asked: u64) -> Option<u32> {
    (asked > 0).then(|| u32::try_from(asked).unwrap_or(u32::MAX))
}

/// The digits of a number, also of one in quotes: `bind('1234')`.
fn number_text(value: &RawValue) -> Option<Cow<'_, str>> {
    if value.get().starts_with('"') {
        string(value)
    } else {
        Some(Cow::Borrowed(value.get()))
    }
}

/// A string, unescaped. `None` for other types, and for lone surrogates.
pub(super) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(value.get()).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// A whole number from 0. `None` for other types.
pub(super) fn unsigned(value: &RawValue) -> Option<u64> {
    value.get().parse().ok()
}

/// Where a primary listens, as it says in the answer to a query.
pub(super) fn sockname(value: &RawValue) -> Option<Sockname> {
    let fields: Fields<'_> = serde_json::from_str(value.get()).ok()?;
    Some(Sockname {
        address: fields.address.and_then(string)?.into_owned(),
        v6: fields.family.is_some_and(|family| family.get().contains('6')),
        port: u16::try_from(fields.port.and_then(unsigned)?).ok()?,
    })
}

pub(super) fn truth(value: &RawValue) -> bool {
    value.get() == "true"
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}
