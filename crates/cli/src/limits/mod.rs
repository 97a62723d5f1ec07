//! What the options for limits mean: from text to [`everup::Limits`], users and groups looked up.
//!
//! Whether the system allows it is found out by the library before the first worker is started.

use crate::args::limits::LimitsArgs;
use crate::error::CliError;
use crate::plan::{optional, value};
use crate::size;
use everup::Limits;
use everup::limits::{Affinity, Capability, CgroupLimits, Identity, IdentityError, Resource, Rlimit};
use std::collections::{BTreeMap, BTreeSet};

/// Why a text is no limit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("not an octal number of at most three digits")]
    Umask,
    #[error("not a number from {least} to {most}")]
    Range { least: i32, most: i32 },
    #[error("no `=` in it")]
    RlimitWithoutEquals,
    #[error("there is no resource `{0}`")]
    Resource(String),
    #[error("`{0}` is no amount")]
    Amount(String),
    #[error("the soft limit is above the hard one")]
    SoftAboveHard,
    #[error("it is given twice")]
    Twice,
    #[error("not a list of CPUs")]
    CpuList,
    #[error("there is no CPU {cpu}; this machine has {there}")]
    NoCpu { cpu: u32, there: String },
    #[error("there is no such capability")]
    Capability,
    #[error("not a size")]
    Size,
    #[error("not a number of CPUs of at least 0.01")]
    Cpus,
    #[error("not a number above 0")]
    Count,
}

impl LimitError {
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Identity(error) => return identity_hint(error),
            Self::Umask => "write it as in a shell: 022, 027, 077".into(),
            Self::RlimitWithoutEquals => {
                "write --rlimit NAME=SOFT or NAME=SOFT:HARD, such as nofile=65536".into()
            }
            Self::Resource(_) => {
                let names = Resource::ALL
                    .iter()
                    .map(|resource| resource.name())
                    .collect::<Vec<_>>();
                format!("the names are {}", names.join(", "))
            }
            Self::Amount(_) => "write a number, a size (2G) where bytes are limited, or `unlimited`".into(),
            Self::SoftAboveHard => "write SOFT:HARD with the smaller one first".into(),
            Self::CpuList => "write `auto`, or numbers and ranges: 0-3,5".into(),
            Self::Capability => {
                "the names are those of `man 7 capabilities`, such as net_bind_service".into()
            }
            Self::Size => "write bytes or a number with a unit: 512M, 1.5G".into(),
            Self::Cpus => "write the CPU time of one worker in CPUs: 0.5, 2".into(),
            Self::Twice => "give each resource once".into(),
            Self::Range { .. } | Self::NoCpu { .. } | Self::Count => return None,
        })
    }
}

fn identity_hint(error: &IdentityError) -> Option<String> {
    match error {
        IdentityError::NoUser => Some("`getent passwd` lists the users; a number may be given too".into()),
        IdentityError::NoGroup => Some("`getent group` lists the groups; a number may be given too".into()),
        IdentityError::NoPrimaryGroup => Some("name the group too, with --gid".into()),
        _ => None,
    }
}

/// # Errors
/// With the option and the value that make no sense.
pub(crate) fn parse(args: &LimitsArgs) -> Result<Limits, CliError> {
    let mut limits = Limits::default();
    limits.identity = identity(args.uid.as_deref(), args.gid.as_deref())?;
    limits.umask = optional("--umask", args.umask.as_deref(), umask)?;
    limits.nice = optional("--nice", args.nice.as_deref(), |text| number(text, -20, 19))?;
    limits.rlimits = rlimits(&args.rlimit)?;
    limits.affinity = optional("--cpu-affinity", args.cpu_affinity.as_deref(), affinity)?;
    let score = args.oom_score_adj.as_deref();
    limits.oom_score_adj = optional("--oom-score-adj", score, |text| number(text, -1000, 1000))?;
    limits.no_new_privs = args.no_new_privs;
    for name in &args.keep_cap {
        let known = |text: &str| Capability::named(text).ok_or(LimitError::Capability);
        limits.keep_caps.insert(value("--keep-cap", name, known)?);
    }
    limits.cgroup = cgroup(args)?;
    Ok(limits)
}

fn identity(user: Option<&str>, group: Option<&str>) -> Result<Option<Identity>, CliError> {
    let found = match (user, group) {
        (None, None) => return Ok(None),
        (Some(user), None) => value("--uid", user, |user| {
            Identity::of_user(user).map_err(LimitError::from)
        })?,
        (None, Some(group)) => value("--gid", group, |group| {
            Identity::of_group(group).map_err(LimitError::from)
        })?,
        (Some(user), Some(group)) => {
            let both = |group: &str| Identity::of_user_and_group(user, group);
            match both(group) {
                Err(IdentityError::NoGroup) => {
                    value("--gid", group, |_| Err(LimitError::from(IdentityError::NoGroup)))?
                }
                found => value("--uid", user, |_| found.map_err(LimitError::from))?,
            }
        }
    };
    Ok(Some(found))
}

fn umask(text: &str) -> Result<u32, LimitError> {
    // As in a shell, a leading 0 more is fine.
    let digits = text.trim_start_matches('0');
    let octal =
        !text.is_empty() && digits.len() <= 3 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    match octal {
        true => u32::from_str_radix(text, 8).map_err(|_| LimitError::Umask),
        false => Err(LimitError::Umask),
    }
}

fn number(text: &str, least: i32, most: i32) -> Result<i32, LimitError> {
    let parsed = text.parse().ok().filter(|number| (least..=most).contains(number));
    parsed.ok_or(LimitError::Range { least, most })
}

fn rlimits(texts: &[String]) -> Result<BTreeMap<Resource, Rlimit>, CliError> {
    let mut limits = BTreeMap::new();
    for text in texts {
        let (resource, limit) = value("--rlimit", text, rlimit)?;
        if limits.insert(resource, limit).is_some() {
            return value("--rlimit", text, |_| Err(LimitError::Twice));
        }
    }
    Ok(limits)
}

fn rlimit(text: &str) -> Result<(Resource, Rlimit), LimitError> {
    let (name, amounts) = text.split_once('=').ok_or(LimitError::RlimitWithoutEquals)?;
    let resource = Resource::named(name).ok_or_else(|| LimitError::Resource(name.into()))?;
    let (soft, hard) = amounts.split_once(':').unwrap_or((amounts, amounts));
    let (soft, hard) = (amount(resource, soft)?, amount(resource, hard)?);
    if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
        return Err(LimitError::SoftAboveHard);
    }
    Ok((resource, Rlimit { soft, hard }))
}

fn amount(resource: Resource, text: &str) -> Result<Option<u64>, LimitError> {
    if matches!(text, "unlimited" | "infinity" | "-1") {
        return Ok(None);
    }
    let bytes = matches!(
        resource,
        Resource::Fsize
            | Resource::Data
            | Resource::Stack
            | Resource::Core
            | Resource::Rss
            | Resource::Memlock
            | Resource::As
            | Resource::Msgqueue
    );
    let parsed = if bytes {
        size::parse(text).ok()
    } else {
        text.parse().ok()
    };
    // The greatest number is the kernel's word for "unlimited".
    let limited = parsed.filter(|amount| *amount < u64::MAX);
    limited.map(Some).ok_or_else(|| LimitError::Amount(text.into()))
}

fn affinity(text: &str) -> Result<Affinity, LimitError> {
    if text == "auto" {
        return Ok(Affinity::OneEach);
    }
    let cpus = cpu_list(text).ok_or(LimitError::CpuList)?;
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    if let Some(there) = cpu_list(online.trim())
        && let Some(cpu) = cpus.difference(&there).next()
    {
        return Err(LimitError::NoCpu {
            cpu: *cpu,
            there: online.trim().into(),
        });
    }
    Ok(Affinity::Cpus(cpus))
}

/// As the kernel writes it: `0-3,5`.
fn cpu_list(text: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !plain(first) || !plain(last) {
            return None;
        }
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST_CPUS {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

fn cgroup(args: &LimitsArgs) -> Result<CgroupLimits, CliError> {
    let bytes = |text: &str| {
        size::parse(text)
            .ok()
            .filter(|size| *size > 0)
            .ok_or(LimitError::Size)
    };
    let count = |text: &str| match text.parse() {
        Ok(0) | Err(_) => Err(LimitError::Count),
        Ok(count) => Ok(count),
    };
    let mut limits = CgroupLimits::default();
    limits.memory_max = optional("--memory-max", args.memory_max.as_deref(), bytes)?;
    limits.memory_high = optional("--memory-high", args.memory_high.as_deref(), bytes)?;
    limits.milli_cpus = optional("--cpus", args.cpus.as_deref(), milli_cpus)?;
    limits.pids_max = optional("--pids-max", args.pids_max.as_deref(), count)?;
    Ok(limits)
}

/// `1.5` is 1500; what is finer is left out.
fn milli_cpus(text: &str) -> Result<u32, LimitError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(LimitError::Cpus);
    }
    let whole: u32 = whole.parse().map_err(|_| LimitError::Cpus)?;
    let thousandths: u32 = format!("{fraction:0<3}")[..3]
        .parse()
        .map_err(|_| LimitError::Cpus)?;
    match whole
        .checked_mul(1000)
        .and_then(|milli| milli.checked_add(thousandths))
    {
        Some(milli) if milli >= 10 => Ok(milli),
        _ => Err(LimitError::Cpus),
    }
}

/// What a set of CPUs can hold.
const MOST_CPUS: u32 = 1024;

#[cfg(test)]
mod tests;
