//! `overnight simulate`: the simulated provider as a server of its own, for other programs and for tests.
//!
//! Stdout gets one line, the base URL, once calls are taken, so that a script can read where it
//! is (with `--port 0`, any free port). It ends on Ctrl-C or SIGTERM and never before; both are
//! listened for before that line is written, so that whoever has read it can also end it in order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser as _;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use super::failure::{Exit, Failure};
use super::out::Out;
use super::{Context, shell_word, text};
use crate::engine::Clock;
use crate::simulate::{self, Fault, Faults, Moment, Settings, Totals};

/// Run the simulated provider as a server: OpenAI's wire format, made-up answers, faults to order.
#[derive(clap::Args, Debug)]
#[command(after_help = after_help())]
pub(crate) struct Args {
    /// The port on 127.0.0.1; 0 takes any that is free.
    #[arg(long, value_name = "N", default_value_t = 8787, allow_negative_numbers = true, value_parser = text::whole::<u16>(0, Some(65_535)))]
    port: u16,
    /// What answers, ids, jitter and faults are drawn from; the same seed gives the same answers.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = text::whole::<u64>(0, None))]
    seed: u64,
    /// How long a reply takes.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = text::parse_duration)]
    latency: Duration,
    /// How far the latency varies, as a share of itself: 0.25 is a quarter more or less.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_share)]
    jitter: f64,
    /// Requests per minute; above it calls are refused with 429, and replies carry `x-ratelimit-*`.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = text::whole::<u32>(1, None))]
    rpm: Option<u32>,
    /// Tokens per minute; above it calls are refused with 429, and replies carry `x-ratelimit-*`.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = text::whole::<u32>(1, None))]
    tpm: Option<u32>,
    /// The most tokens that a prompt and its completion may have together.
    #[arg(
        long,
        value_name = "TOKENS",
        default_value_t = 128_000,
        allow_negative_numbers = true,
        value_parser = text::whole::<u32>(1, None)
    )]
    context: u32,
    /// A model that is served, may be given several times; without it every name is.
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    model: Vec<String>,
    /// The key that callers must send; without it any key will do, or none. No real one is needed here.
    #[arg(long, value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    api_key: Option<String>,
    /// What goes wrong, and when: FAULT=WHEN, separated by commas (see below).
    #[arg(long, value_name = "FAULTS", default_value = "", hide_default_value = true)]
    faults: Faults,
    /// How long the fault `hang` keeps a connection before it is closed.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = text::parse_duration)]
    hang: Duration,
    /// How long the fault `slow` waits between the parts of a reply.
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = text::parse_duration)]
    drip: Duration,
    /// A file to which one line of JSON is appended for each charge, before it is answered.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// How long a batch takes from its creation to its end; with 0 each look moves it on by one status.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = text::parse_duration)]
    batch_delay: Duration,
    /// How long a batch has before it expires; what was done until then is kept.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = text::parse_some_duration)]
    batch_window: Duration,
    /// The most requests that a batch may have.
    #[arg(long, value_name = "N", default_value_t = 50_000, allow_negative_numbers = true, value_parser = text::whole::<u32>(1, None))]
    batch_requests: u32,
    /// The most bytes that a file for a batch may have.
    #[arg(long, value_name = "N", default_value_t = 200_000_000, allow_negative_numbers = true, value_parser = text::whole::<u64>(1, Some(512_000_000)))]
    batch_bytes: u64,
    /// The most prompt tokens of batches under way, for each model; a batch above it fails.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = text::whole::<u64>(1, None))]
    enqueued_tokens: Option<u64>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    if let Some(path) = &args.ledger {
        check_ledger(path)?;
    }
    let settings = settings(&args);
    let cannot_start =
        |error| Failure::error("cannot start the simulated provider").caused_by(&error);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(cannot_start)?.block_on(async {
        let ended = EndSignals::listen().map_err(cannot_start)?;
        let started = simulate::start(settings).await;
        let simulator = started.map_err(|error| cannot_listen(args.port, &error))?;
        announce(&simulator.base_url(), &args, context.out)?;
        ended.wait().await;
        context.out.say(&summary(&simulator.stop().await.totals));
        Ok(Exit::Done)
    })
}

/// The variable that tells the simulator in the program how to behave.
pub(crate) const VARIABLE: &str = "OVERNIGHT_SIMULATE";

/// The options of `overnight simulate` without the command.
#[derive(clap::Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Options {
    #[command(flatten)]
    args: Args,
}

/// Returns the settings of the simulator in the program, from the options in [`VARIABLE`].
pub(crate) fn embedded(options: &str) -> Result<Settings, Failure> {
    let read = Options::try_parse_from(options.split_whitespace()).map_err(|error| {
        let words = error.to_string();
        let first = words.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Failure::usage(format!("{VARIABLE} cannot be used: {first}"))
            .hint("it takes options as in `overnight simulate --help`, separated by spaces")
    })?;
    Ok(Settings { port: 0, ..settings(&read.args) })
}

fn settings(args: &Args) -> Settings {
    Settings {
        seed: args.seed,
        port: args.port,
        latency: args.latency,
        latency_jitter: args.jitter,
        rpm: args.rpm,
        tpm: args.tpm,
        context_tokens: args.context,
        models: args.model.clone(),
        api_key: args.api_key.clone(),
        faults: args.faults.clone(),
        hang: args.hang,
        drip: args.drip,
        ledger: args.ledger.clone(),
        batch_delay: args.batch_delay,
        batch_window: args.batch_window,
        batch_requests: args.batch_requests,
        batch_bytes: args.batch_bytes,
        enqueued_tokens: args.enqueued_tokens,
        ..Settings::new(Clock::now)
    }
}

/// Opens the ledger as the simulator will, for an error that names it and not the port.
fn check_ledger(path: &Path) -> Result<(), Failure> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(|error| {
        let what = format!("cannot append to the ledger {}", path.display());
        Failure::error(what).caused_by(&error)
    })
}

fn cannot_listen(port: u16, error: &io::Error) -> Failure {
    let failure = match error.kind() {
        ErrorKind::AddrInUse => {
            Failure::error(format!("port {port} of 127.0.0.1 is in use by another program"))
        }
        _ => Failure::error(format!("cannot listen on port {port} of 127.0.0.1")).caused_by(error),
    };
    failure.hint("`overnight simulate --port 0` takes any port that is free")
}

/// Writes the base URL, then says what to do with it.
fn announce(base_url: &str, args: &Args, out: Out) -> Result<(), Failure> {
    if out.is_json() {
        out.json_line(&json!({ "base_url": base_url }))?;
    } else {
        out.data(&format!("{base_url}\n"))?;
    }
    out.say("The simulated provider takes calls here: it makes its answers up and bills nobody. Ctrl-C ends it.");
    if let Some(key) = &args.api_key {
        out.hint(&format!("`export OPENAI_API_KEY={}` gives callers the key", shell_word(key)));
    }
    out.hint(&format!(
        "`overnight init --base-url {base_url} --model {} --prompt PROMPT` makes a project that uses it",
        shell_word(&model(args))
    ));
    let ledger = base_url.strip_suffix("/v1").unwrap_or(base_url);
    out.hint(&format!("`curl {ledger}/ledger` shows what it has charged so far"));
    Ok(())
}

/// Returns the name under which a project reaches it: `simulated/…` has a price and sends no key.
fn model(args: &Args) -> String {
    let provider = if args.api_key.is_some() { "openai" } else { "simulated" };
    format!("{provider}/{}", args.model.first().map_or("small", String::as_str))
}

fn summary(totals: &Totals) -> String {
    let mut lines = format!(
        "{}: {} charged ({} and {}), {} answered",
        text::count(totals.requests, "request"),
        text::thousands(totals.charged_requests),
        text::count(totals.input_tokens, "input token"),
        text::count(totals.output_tokens, "output token"),
        text::thousands(totals.answered_requests),
    );
    if totals.files_uploaded > 0 || totals.batches_created > 0 {
        let _ = write!(
            lines,
            "\nbatches: {} created, {} uploaded, {} charged",
            text::thousands(totals.batches_created),
            text::count(totals.files_uploaded, "file"),
            text::count(totals.batch_charged_requests, "request"),
        );
    }
    if totals.charged_again > 0 {
        let again = text::count(totals.charged_again, "charge");
        let _ = write!(lines, "\ncharged again after an answer: {again}");
    }
    for (what, counts) in
        [("faults that struck", &totals.faults), ("errors replied", &totals.errors)]
    {
        if !counts.is_empty() {
            let _ = write!(lines, "\n{what}: {}", listed(counts));
        }
    }
    lines
}

fn listed(counts: &BTreeMap<&'static str, u64>) -> String {
    let one = |(name, count): (&&str, &u64)| format!("{} {name}", text::thousands(*count));
    counts.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share; write a number from 0 to 1, such as 0.25"))
}

/// What asks a program to end: Ctrl-C, SIGTERM.
#[cfg(unix)]
pub(super) struct EndSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl EndSignals {
    /// Starts to listen, on the runtime that has been entered; from here on neither ends the
    /// process by itself.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits until one comes.
    pub(super) async fn wait(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What asks a program to end: Ctrl-C, the closing of its window.
#[cfg(windows)]
pub(super) struct EndSignals {
    interrupt: tokio::signal::windows::CtrlC,
    close: tokio::signal::windows::CtrlClose,
}

#[cfg(windows)]
impl EndSignals {
    /// Starts to listen, on the runtime that has been entered; from here on neither ends the
    /// process by itself.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::windows::{ctrl_c, ctrl_close};
        Ok(Self { interrupt: ctrl_c()?, close: ctrl_close()? })
    }

    /// Waits until one comes.
    pub(super) async fn wait(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.close.recv() => {}
        }
    }
}

fn after_help() -> String {
    let mut help = String::from(EXAMPLES);
    for (moments, heading) in HEADINGS {
        let _ = writeln!(help, "\n{heading}:");
        for fault in Fault::ALL.into_iter().filter(|fault| fault.moments() == moments) {
            let _ = writeln!(help, "  {:<16} {}", fault.as_str(), says(fault));
        }
    }
    help.truncate(help.trim_end().len());
    help
}

const EXAMPLES: &str = "\
Examples:
  overnight simulate
  overnight simulate --port 0 --latency 300ms --jitter 0.5 --rpm 500
  overnight simulate --faults 429=0.05,500=every:20,lost=first:1 --ledger charges.jsonl
  overnight simulate --batch-delay 2m --enqueued-tokens 2000000 --faults line_missing=0.01
  OVERNIGHT_SIMULATE='--faults 429=0.05' overnight run

The last one is for models simulated/… without a server, which are answered in the program itself.

When a fault strikes:
  429=0.05        this share of all requests
  429=first:3     the first 3 requests
  429=every:10    each 10th request
  429=tries:2     the first 2 times that the same body comes
  429=once        the same as tries:1
Each kind below is counted by itself; `tries` goes by what is named with it.
";

/// The kinds of faults, what `tries` goes by for each, and what is charged.
const HEADINGS: [(&[Moment], &str); 9] = [
    (
        &[Moment::Call],
        "Calls, tries by body (a reply of 200 is charged, and so is `lost`; nothing else is)",
    ),
    (
        &[Moment::Call, Moment::Line],
        "Answers to calls and, counted by themselves, to lines of batches, tries by body (charged)",
    ),
    (&[Moment::Upload], "Uploads, tries by bytes"),
    (&[Moment::Create], "Creates of batches, tries by input file"),
    (&[Moment::Batch], "How a valid batch goes, tries by the input's bytes"),
    (&[Moment::Result], "What a valid batch says of its results, tries by the input's bytes"),
    (&[Moment::Line], "Lines of batches, tries by body (charged, but for 429 and 500)"),
    (&[Moment::Poll], "Looks at a batch, tries by batch"),
    (&[Moment::Content], "Downloads of result files, tries by file"),
];

/// Says what a fault does, for `--help`.
fn says(fault: Fault) -> &'static str {
    match fault {
        Fault::RateLimit => "429 rate_limit_exceeded, with a short retry-after-ms",
        Fault::Quota => "429 insufficient_quota",
        Fault::ServerError => "500 server_error",
        Fault::Overloaded => "503 server_is_overloaded",
        Fault::Unauthorized => "401 invalid_api_key",
        Fault::Forbidden => "403, a country that is not served",
        Fault::ModelNotFound => "404 model_not_found",
        Fault::InvalidRequest => "400 invalid_value",
        Fault::Context => "400 context_length_exceeded",
        Fault::TooLarge => "413, the body is too large",
        Fault::Reset => "the connection is reset before any byte of a reply",
        Fault::Close => "the connection is closed in good order, without a reply",
        Fault::Hang => "no reply comes until --hang has passed",
        Fault::Slow => "the reply comes in small parts, --drip apart",
        Fault::Cut => "the reply ends before the length that it announced",
        Fault::BadJson => "a 200 whose JSON is broken off",
        Fault::Html => "a gateway's 502, an HTML page",
        Fault::Empty => "a 200 without a body",
        Fault::Refusal => "the model declines to answer",
        Fault::ContentFilter => "the answer is withheld by a filter",
        Fault::Length => "the answer is cut by the token limit, once a conversation",
        Fault::WrongType => "a 200 whose `choices` (or `output`) is a string",
        Fault::WrongLabel => "an answer outside of the schema or the choices",
        Fault::Lost => "the answer is made, then the connection is reset",
        Fault::UploadServerError => "500 server_error, and no file is made",
        Fault::UploadLost => "the file is made, then the connection is closed",
        Fault::CreateServerError => "500 server_error, and no batch is made",
        Fault::CreateRateLimit => "429 with a retry-after of 1 s, and no batch is made",
        Fault::CreateNotFound => "404, the input file is not found yet; no batch is made",
        Fault::CreateLost => "the batch is made, then the connection is closed",
        Fault::BatchFailed => "it fails in validation, nothing is done",
        Fault::BatchTokens => "it fails in validation as token_limit_exceeded",
        Fault::BatchBroken => "it fails half done, what was done is in its output",
        Fault::BatchExpired => "it expires half done",
        Fault::BatchCancelled => "the provider cancels it half done",
        Fault::BatchVanished => "it is in progress once, then it is a 404",
        Fault::BatchStuck => "it is finalizing for 5 looks or --batch-delay more",
        Fault::ResultEmptyIds => "the id of a file there is not is \"\", not null",
        Fault::ResultEmptyFile => "without errors there is an error file of 0 bytes",
        Fault::ResultCounts => "request_counts says what is not so",
        Fault::LineRateLimit => "its reply is a 429, in the error file",
        Fault::LineServerError => "its reply is a 500, in the error file",
        Fault::LineMissing => "its result stands in neither file",
        Fault::LineDoubled => "its result stands in the output file twice",
        Fault::LineUnknown => "its result has a custom_id that nobody sent",
        Fault::LineGarbled => "its result is broken off and no JSON",
        Fault::LineSeparator => "its result has U+2028, U+2029, U+0085 in a string",
        Fault::LineBoth => "it has an answer and, in the error file, a 500",
        Fault::PollServerError => "500 server_error",
        Fault::PollRateLimit => "429 with a retry-after of 1 s",
        Fault::ContentNotFound => "404, as if there were no such file",
        Fault::ContentServerError => "500 server_error",
        Fault::ContentCut => "the content ends before its announced length",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser, Debug)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn read(words: &[&str]) -> Result<Settings, String> {
        let line = Line::try_parse_from([&["simulate"], words].concat());
        line.map(|line| settings(&line.args)).map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_every_correct_call_is_answered_at_once() {
        let read = read(&[]).unwrap();
        let plain = Settings { port: 8787, ..Settings::new(Clock::now) };
        assert_eq!(format!("{read:?}"), format!("{plain:?}"));
    }

    #[test]
    fn every_setting_can_be_given() {
        let words = "--port 0 --seed 7 --latency 300ms --jitter 0.5 --rpm 60 --tpm 9000 --context 4096 \
                     --model a --model b/c --api-key sk-fake --faults 429=0.05,lost=once --hang 2s \
                     --drip 5ms --ledger charges.jsonl --batch-delay 2m --batch-window 1h \
                     --batch-requests 10 --batch-bytes 999 --enqueued-tokens 90000";
        let read = read(&words.split_whitespace().collect::<Vec<_>>()).unwrap();
        let expected = Settings {
            seed: 7,
            port: 0,
            latency: Duration::from_millis(300),
            latency_jitter: 0.5,
            rpm: Some(60),
            tpm: Some(9000),
            context_tokens: 4096,
            models: vec!["a".to_owned(), "b/c".to_owned()],
            api_key: Some("sk-fake".to_owned()),
            faults: "429=0.05,lost=once".parse().unwrap(),
            hang: Duration::from_secs(2),
            drip: Duration::from_millis(5),
            ledger: Some("charges.jsonl".into()),
            batch_delay: Duration::from_mins(2),
            batch_window: Duration::from_hours(1),
            batch_requests: 10,
            batch_bytes: 999,
            enqueued_tokens: Some(90_000),
            ..Settings::new(Clock::now)
        };
        assert_eq!(format!("{read:?}"), format!("{expected:?}"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_word_on_what_does() {
        for (words, told) in [
            (["--jitter", "2"], "from 0 to 1"),
            (["--jitter", "NaN"], "from 0 to 1"),
            (["--latency", "soon"], "write it as 30s"),
            (["--faults", "teapot=1"], "there are 429, quota"),
            (["--faults", "429"], "does not say when"),
            (["--rpm", "0"], "1 or more"),
            (["--context", "0"], "1 or more"),
            (["--port", "70000"], "from 0 to 65,535"),
            (["--api-key", ""], "value is required"),
            (["--model", ""], "value is required"),
            (["--batch-window", "0"], "more than nothing"),
            (["--batch-requests", "0"], "1 or more"),
            (["--enqueued-tokens", "none"], "1 or more"),
        ] {
            let error = read(&words).unwrap_err();
            assert!(error.contains(told), "{words:?}: {error}");
        }
    }

    #[test]
    fn the_simulator_in_the_program_takes_the_same_options() {
        let read = embedded(" --faults line_429=0.5  --enqueued-tokens 900").unwrap();
        assert_eq!((read.port, read.enqueued_tokens), (0, Some(900)));
        assert_eq!(embedded("--port 8787").unwrap().port, 0, "it takes any that is free");
        for (options, told) in
            [("--faults teapot=1", "teapot"), ("--nope", "--nope"), ("word", "word")]
        {
            let failure = embedded(options).unwrap_err();
            let words = failure.words().unwrap();
            assert!(
                words.contains("OVERNIGHT_SIMULATE cannot be used: ") && words.contains(told),
                "{words}"
            );
            assert_eq!(failure.exit, Exit::Usage);
        }
    }

    #[test]
    fn help_has_every_fault_and_examples_that_can_be_typed() {
        let help = after_help();
        for fault in Fault::ALL {
            let line = format!("  {:<16} {}", fault.as_str(), says(fault));
            let times = help.lines().filter(|other| *other == line).count();
            assert_eq!(times, 1, "{fault}");
            assert!(line.len() < 80, "{line}");
        }
        let examples =
            EXAMPLES.lines().filter_map(|line| line.strip_prefix("  overnight simulate"));
        for example in examples {
            read(&example.split_whitespace().collect::<Vec<_>>()).unwrap();
        }
        for when in EXAMPLES.lines().filter_map(|line| line.strip_prefix("  429=")) {
            let faults = format!("429={}", when.split_whitespace().next().unwrap());
            assert!(faults.parse::<Faults>().is_ok(), "{faults}");
        }
    }

    #[test]
    fn a_ledger_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let words = check_ledger(folder.path()).unwrap_err().words().unwrap();
        assert!(words.contains(&format!("ledger {}", folder.path().display())), "{words}");
        assert!(check_ledger(&folder.path().join("charges.jsonl")).is_ok());
    }

    #[test]
    fn the_summary_counts_charges_faults_and_errors() {
        let totals = Totals {
            requests: 1200,
            charged_requests: 1001,
            answered_requests: 1000,
            charged_again: 1,
            input_tokens: 54_321,
            output_tokens: 1,
            faults: BTreeMap::from([("lost", 1), ("429", 199)]),
            errors: BTreeMap::from([("rate_limit_exceeded", 199)]),
            ..Totals::default()
        };
        let expected = "1,200 requests: 1,001 charged (54,321 input tokens and 1 output token), 1,000 answered\n\
                        charged again after an answer: 1 charge\n\
                        faults that struck: 199 429, 1 lost\n\
                        errors replied: 199 rate_limit_exceeded";
        assert_eq!(summary(&totals), expected);
        let batches = Totals {
            files_uploaded: 2,
            batches_created: 1,
            batch_charged_requests: 1000,
            ..totals
        };
        let told = "\nbatches: 1 created, 2 files uploaded, 1,000 requests charged\ncharged again";
        assert!(summary(&batches).contains(told), "{}", summary(&batches));
        assert_eq!(summary(&Totals::default()).lines().count(), 1);
    }
}
