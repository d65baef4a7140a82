//! The pure core of multicri, called from `core.ts` through two functions: `reserve` for the request's
//! bytes, `call` for the answer's. Requests and answers are rows of values (see `frame`); every operation is
//! a function of its request alone.

#[cfg(target_arch = "wasm32")]
mod arena;
mod custom_config;
mod domain;
mod environment;
mod frame;
mod image_name;
mod letters;
mod limits;
mod nearest;
mod prefix;
mod quote;
mod reference;
mod refusal;
mod sbatch_options;
mod script;
mod slurm_state;
mod sources;

use frame::{Reader, Writer};
use refusal::Refusal;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ARENA: arena::Arena = arena::Arena;

/// Ends the call before, and returns where to put the `length` bytes of the next request.
#[cfg(target_arch = "wasm32")]
#[no_mangle]
pub extern "C" fn reserve(length: usize) -> *mut u8 {
    arena::empty();
    let mut request = Vec::<u8>::with_capacity(length);
    let start = request.as_mut_ptr();
    core::mem::forget(request);
    start
}

/// Answers the request of `length` bytes at `start`; returns where the answer is: its length in bytes, as a
/// 32-bit little-endian number, and the answer. It stays there until the next `reserve`.
///
/// # Safety
/// `start` must be what `reserve(length)` returned last.
#[cfg(target_arch = "wasm32")]
#[no_mangle]
pub unsafe extern "C" fn call(operation: u32, start: *const u8, length: usize) -> *const u8 {
    let answer = answer(operation, core::slice::from_raw_parts(start, length));
    let mut bytes = Vec::with_capacity(answer.len() + 4);
    bytes.extend_from_slice(&(answer.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&answer);
    let start = bytes.as_ptr();
    core::mem::forget(bytes);
    start
}

/// The answer to a request: 1 and the values, or 0 and the sentence of the refusal.
pub fn answer(operation: u32, request: &[u8]) -> Vec<u8> {
    let mut answer = Writer::default();
    answer.flag(true);
    match perform(operation, &mut Reader::new(request), &mut answer) {
        Ok(()) => answer.finish(),
        Err(refusal) => {
            let mut answer = Writer::default();
            answer.flag(false);
            answer.string(&refusal.0);
            answer.finish()
        }
    }
}

/// The operations, numbered as in `core.ts`.
fn perform(operation: u32, request: &mut Reader, answer: &mut Writer) -> Result<(), Refusal> {
    match operation {
        0 => parse_image_name(request, answer),
        1 => {
            answer.string(&quote::posix(request.string()?)?);
            Ok(())
        }
        2 => render_environment(request, answer),
        3 => {
            let join = request.flag()?;
            let words = request.list(|request| request.string())?;
            let joined = quote::join_command(&words, join)?;
            answer.list(&joined, |answer, word| answer.string(word));
            Ok(())
        }
        4 => parse_custom_config(request, answer),
        5 => render_job_script(request, answer),
        6 => slurm_state(request, answer),
        7 => parse_exit_code(request, answer),
        _ => Err(Refusal::new(format!("The core has no operation {}.", operation))),
    }
}

fn parse_image_name(request: &mut Reader, answer: &mut Writer) -> Result<(), Refusal> {
    let image = image_name::parse(request.string()?)?;
    answer.number(image.kind as u32);
    answer.flag(image.prefixed);
    answer.string(&image.canonical);
    answer.string(&image.url);
    for field in [
        &image.registry,
        &image.repository,
        &image.tag,
        &image.digest,
        &image.familiar,
        &image.full,
        &image.path,
    ] {
        answer.optional(field.as_deref());
    }
    Ok(())
}

fn render_environment(request: &mut Reader, answer: &mut Writer) -> Result<(), Refusal> {
    let variables = request.list(|request| {
        Ok(environment::Variable { name: request.string()?, value: request.string()? })
    })?;
    let rendered = environment::render(&variables)?;
    answer.string(&rendered.file);
    answer.list(&rendered.via_argv, |answer, name| answer.string(name));
    Ok(())
}

fn parse_custom_config(request: &mut Reader, answer: &mut Writer) -> Result<(), Refusal> {
    let config = custom_config::parse(request.string()?);
    answer.list(&config.options, |answer, (name, value)| {
        answer.string(name);
        answer.optional(value.as_deref());
    });
    answer.list(&config.environment, |answer, (name, value)| {
        answer.string(name);
        answer.string(value);
    });
    answer.list(&config.ignored, |answer, ignored| {
        answer.number(ignored.line as u32);
        answer.string(&ignored.text);
        answer.string(&ignored.why);
    });
    Ok(())
}

fn render_job_script(request: &mut Reader, answer: &mut Writer) -> Result<(), Refusal> {
    let job = script::Job {
        name: request.string()?,
        comment: request.string()?,
        directory: request.string()?,
        options: request.list(|request| Ok((request.string()?, request.optional()?)))?,
        environment: request.list(|request| Ok((request.string()?, request.string()?)))?,
        has_prerun: request.flag()?,
        usage_seconds: request.number()?,
        runtime_arguments: request.list(|request| request.string())?,
        image: request.string()?,
        program: request.list(|request| request.string())?,
        launcher: request.list(|request| request.string())?,
        module: request.string()?,
    };
    answer.string(&script::render(&job)?);
    Ok(())
}

fn slurm_state(request: &mut Reader, answer: &mut Writer) -> Result<(), Refusal> {
    let state = slurm_state::parse(request.string()?);
    answer.flag(state.is_some());
    if let Some(state) = state {
        answer.string(state.name);
        answer.string(state.phase.name());
        answer.flag(state.end.is_some());
        if let Some(end) = state.end {
            answer.flag(end.succeeded);
            answer.string(end.reason);
            answer.flag(end.exit_code.is_some());
            answer.number(end.exit_code.unwrap_or(0));
        }
    }
    Ok(())
}

fn parse_exit_code(request: &mut Reader, answer: &mut Writer) -> Result<(), Refusal> {
    let text = request.string()?;
    let (code, signal, exit_code) = slurm_state::parse_exit_code(text).ok_or_else(|| {
        Refusal::new(format!(
            "Cannot read {} as an exit code of Slurm: it must be CODE:SIGNAL, as in 7:0.",
            refusal::shown(text)
        ))
    })?;
    for number in [code, signal, exit_code] {
        answer.number(number);
    }
    Ok(())
}
