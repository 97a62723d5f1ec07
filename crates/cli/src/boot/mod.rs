//! Verbs around the daemon: having it started at boot, looking after it, settings, samples, a static server, and what
//! pm2 has and everup has not. Each in a file of its own; none of them changes apps but `serve`.
//!
//! Parts that decide are pure and tested as such: texts of services, findings of `doctor`, settings, answers of the
//! static server.

mod clear;
#[cfg(test)]
mod compat;
pub(crate) mod doctor;
mod examples;
mod files;
mod home;
mod init;
mod not;
mod report;
mod serve;
mod settings;
mod startup;
mod system;
mod told;

use crate::args::boot::BootVerb;
use crate::exit::Exit;
use told::{Outcome, Told};

/// Does it. As pm2, whatever is not well ends with 1.
pub(crate) fn perform(verb: &BootVerb, pm2: bool) -> Exit {
    let exit = told::tell(act(verb, pm2), pm2);
    if pm2 && exit != Exit::Ok {
        Exit::Unexpected
    } else {
        exit
    }
}

fn act(verb: &BootVerb, pm2: bool) -> Outcome {
    match verb {
        BootVerb::Startup(args) => startup::startup(args),
        BootVerb::Unstartup(args) => startup::unstartup(args),
        BootVerb::Doctor(args) => doctor::doctor(args),
        BootVerb::Serve(args) => serve::serve(args, pm2),
        BootVerb::ServeFiles(args) => files::serve_files(args),
        BootVerb::Init(args) => init::init(args),
        BootVerb::Report(args) => report::report(args),
        BootVerb::Set(args) => settings::set(args),
        BootVerb::Multiset(args) => settings::multiset(args),
        BootVerb::Get(args) => settings::get(args),
        BootVerb::Conf(args) => settings::conf(args),
        BootVerb::Unset(args) => settings::unset(args),
        BootVerb::Cleardump => clear::cleardump(),
        BootVerb::Slist(args) => system::slist(args),
        BootVerb::Examples => examples::examples(),
        BootVerb::Not(verb) => Err(Told::from(not::reason(verb))),
    }
}
