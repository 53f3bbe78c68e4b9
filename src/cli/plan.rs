//! `overnight plan`: what is left, what it would take, and what the requests look like.

use serde_json::{Value, json};

use super::failure::{Exit, Failure};
use super::tasks;
use super::text::{count, them, thousands, whole};
use super::{Context, server};
use crate::domain::{NanoUsd, Price, RequestId, RowId, Usage};
use crate::machine::plan::{Left, Liveness};
use crate::machine::prices::PriceTable;
use crate::machine::render::Template;
use crate::machine::request::InDoubtPolicy;
use crate::store::{DueRequest, LockState, PromptRecord, RunLock, Store, StoreError};

/// Rows that the estimate is made from.
const SAMPLE: u32 = 100;
/// Output tokens of an answer that nothing is known about.
const UNKNOWN_OUTPUT: u64 = 50;

/// Show what a run would do, without doing it: what is due, tokens, cost and rendered examples.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight plan
  overnight plan --examples 10
  overnight plan --json

The estimate counts the input of the first rows that are due; for the output it takes the average
of the answers on record, and where there is none, a guess that it names.")]
pub(crate) struct Args {
    /// How many rendered requests to show.
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true, value_parser = whole::<usize>(0, None))]
    examples: usize,
    /// Leave requests in doubt out, as `run --in-doubt=hold` does.
    #[arg(long, value_name = "POLICY", default_value = "resend")]
    in_doubt: InDoubt,
}

/// What to do with requests that may have been sent and have no reply on file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum InDoubt {
    /// Send them again; they may be billed twice.
    Resend,
    /// Leave them for a person.
    Hold,
}

impl From<InDoubt> for InDoubtPolicy {
    fn from(policy: InDoubt) -> Self {
        match policy {
            InDoubt::Resend => Self::Resend,
            InDoubt::Hold => Self::Hold,
        }
    }
}

/// What is left of one prompt, and what it would take.
pub(crate) struct PromptPlan {
    pub(crate) prompt: PromptRecord,
    pub(crate) left: Left,
    pub(crate) estimate: Estimate,
}

/// What the due requests of a prompt would take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Estimate {
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    /// The most that the output can be; `None` where no limit is set.
    pub(crate) most_output_tokens: Option<u64>,
    /// Whether the output is a guess and not an average of answers.
    pub(crate) is_guess: bool,
    /// `None` where the price is unknown.
    pub(crate) cost: Option<NanoUsd>,
    /// The most that it can cost; `None` where unknown.
    pub(crate) most_cost: Option<NanoUsd>,
}

/// Says whether a run of another process is on.
pub(crate) fn liveness(store: &Store) -> Liveness {
    match RunLock::look(store.path()) {
        LockState::Running => Liveness::Running,
        LockState::Idle => Liveness::Idle,
    }
}

/// Counts what is left of every live prompt, with the same code for `plan`, `run` and `run --dry-run`.
pub(crate) fn plans(
    store: &Store,
    in_doubt: InDoubtPolicy,
    liveness: Liveness,
) -> Result<Vec<PromptPlan>, Failure> {
    let prompts = store.live_prompts()?;
    let lefts = store.left(&prompts, in_doubt, liveness)?;
    prompts
        .into_iter()
        .zip(lefts)
        .map(|(prompt, left)| {
            let estimate = estimate(store, &prompt, left.due())?;
            Ok(PromptPlan { prompt, left, estimate })
        })
        .collect()
}

fn estimate(store: &Store, prompt: &PromptRecord, due: u64) -> Result<Estimate, Failure> {
    if due == 0 {
        return Ok(Estimate {
            cost: Some(NanoUsd(0)),
            most_cost: Some(NanoUsd(0)),
            ..Estimate::default()
        });
    }
    let sample = sample(store, prompt, SAMPLE)?;
    let template = template(prompt)?;
    let tokenizer = bpe_openai::o200k_base();
    let mut input = 0u64;
    let mut rendered = 0u64;
    for row in &sample {
        if let Ok(messages) = template.render(&row.cells) {
            input += messages
                .iter()
                .map(|message| 4 + tokenizer.count(&message.text) as u64)
                .sum::<u64>()
                + 3;
            rendered += 1;
        }
    }
    let input_tokens = (input * due).checked_div(rendered).unwrap_or(0);
    let average = store.average_output_tokens(prompt.id)?;
    let most = prompt.spec.max_tokens.map(u64::from);
    let each = average.unwrap_or(UNKNOWN_OUTPUT).min(most.unwrap_or(u64::MAX));
    let price = PriceTable::bundled().lookup(&prompt.spec.model);
    let cost = |output| {
        price
            .map(|price: Price| price.of(Usage { input: input_tokens, output, ..Usage::default() }))
    };
    Ok(Estimate {
        input_tokens,
        output_tokens: each * due,
        most_output_tokens: most.map(|most| most * due),
        is_guess: average.is_none(),
        cost: cost(each * due),
        most_cost: most.and_then(|most| cost(most * due)),
    })
}

fn template(prompt: &PromptRecord) -> Result<Template, Failure> {
    Template::compile(&prompt.spec).map_err(|error| {
        Failure::error(format!("prompt {} cannot be used", prompt.name)).caused_by(&error)
    })
}

fn sample(store: &Store, prompt: &PromptRecord, rows: u32) -> Result<Vec<DueRequest>, StoreError> {
    let mut sample = store.unasked_rows(prompt.id, RowId(0), rows)?;
    if sample.is_empty() {
        sample = store.open_requests(prompt.id, RequestId(0), rows)?;
    }
    Ok(sample)
}

/// Sums what is left over all prompts.
pub(crate) fn total(plans: &[PromptPlan]) -> Left {
    let mut total = Left::default();
    for plan in plans {
        total += plan.left;
    }
    total
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let store = context.open_to_read()?;
    let plans = plans(&store, args.in_doubt.into(), liveness(&store))?;
    let base_url = store.project()?.base_url;
    if context.out.is_json() {
        context.out.json(&as_json(&plans, store.live_rows()?))?;
        return Ok(Exit::Done);
    }
    let mut text = format!("{}: {}\n", context.project.display(), count(store.live_rows()?, "row"));
    if plans.is_empty() {
        text.push_str("there is no prompt yet\n");
    }
    for plan in &plans {
        text.push_str(&describe(plan, base_url.as_deref(), context)?);
        text.push_str(&examples(&store, plan, args.examples)?);
    }
    context.out.data(&text)?;
    next_step(context, &store, &plans)?;
    Ok(Exit::Done)
}

fn describe(
    plan: &PromptPlan,
    base_url: Option<&str>,
    context: &Context,
) -> Result<String, Failure> {
    let (prompt, left, estimate) = (&plan.prompt, plan.left, plan.estimate);
    let place = match tasks::place_of(prompt, base_url, context)? {
        server::Place::Embedded => "the simulator in this program; answers are made up".to_owned(),
        server::Place::Own(url) | server::Place::Custom(url) => url,
    };
    let mut lines = vec![
        format!("\nprompt {} version {}", prompt.name, prompt.version),
        field("model", &format!("{}, {}", prompt.spec.model, prompt.spec.endpoint.as_str())),
        field("server", &place),
        field("due", &reasons(left)),
    ];
    if left.due() > 0 {
        lines.push(field("route", "realtime"));
        lines.push(field("tokens", &tokens(estimate)));
        lines.push(field("cost", &cost(estimate)));
    }
    if left.answered > 0 {
        lines.push(field("answered", &count(left.answered, "request")));
    }
    let program = context.program();
    let resting = [
        (
            left.failed_for_good,
            format!(
                "failed for good: `{program} retry --failed` makes {} due",
                them(left.failed_for_good)
            ),
        ),
        (
            left.at_token_limit,
            format!("cut at the highest token limit: `{program} retry --truncated --max-tokens N`"),
        ),
        (
            left.held,
            format!(
                "in doubt and held: `{program} retry --in-doubt` makes {} due",
                them(left.held)
            ),
        ),
        (left.under_way, "under way".to_owned()),
    ];
    for (number, what) in resting {
        if number > 0 {
            lines.push(field("not due", &format!("{} {what}", thousands(number))));
        }
    }
    Ok(lines.join("\n") + "\n")
}

fn field(name: &str, value: &str) -> String {
    format!("  {name:<9} {value}")
}

fn reasons(left: Left) -> String {
    let parts: Vec<String> = [
        (left.new, "pending"),
        (left.failed, "failed before"),
        (left.truncated, "cut by the token limit"),
        (left.in_doubt, "in doubt"),
    ]
    .iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", thousands(*number)))
    .collect();
    match parts.is_empty() {
        true => "nothing".to_owned(),
        false => format!("{}: {}", count(left.due(), "request"), parts.join(", ")),
    }
}

fn tokens(estimate: Estimate) -> String {
    let basis = if estimate.is_guess { "guessed" } else { "as answers so far" };
    let most = estimate.most_output_tokens.map_or_else(
        || "no limit is set".to_owned(),
        |most| format!("at most {}", thousands(most)),
    );
    format!(
        "about {} in, {} out ({basis}; {most})",
        thousands(estimate.input_tokens),
        thousands(estimate.output_tokens)
    )
}

fn cost(estimate: Estimate) -> String {
    match (estimate.cost, estimate.most_cost) {
        (None, _) => "unknown: no price is known for this model".to_owned(),
        (Some(cost), None) => format!("about {cost}; no max_tokens is set, so there is no ceiling"),
        (Some(cost), Some(most)) => {
            format!("about {cost}, at most {most} if nothing has to be tried again")
        }
    }
}

fn examples(store: &Store, plan: &PromptPlan, examples: usize) -> Result<String, Failure> {
    if plan.left.due() == 0 {
        return Ok(String::new());
    }
    let template = template(&plan.prompt)?;
    let rows = sample(store, &plan.prompt, examples as u32)?;
    let mut text = String::new();
    for row in rows {
        text.push_str(&format!("\n  row #{}\n", row.position));
        match template.render(&row.cells) {
            Ok(messages) => {
                for message in messages {
                    text.push_str(&format!("  {}:\n", message.role.as_str()));
                    for line in message.text.lines() {
                        text.push_str(&format!("    {line}\n"));
                    }
                }
            }
            Err(error) => text.push_str(&format!("    cannot be rendered: {error}\n")),
        }
    }
    Ok(text)
}

fn next_step(context: &Context, store: &Store, plans: &[PromptPlan]) -> Result<(), Failure> {
    let program = context.program();
    if store.live_rows()? == 0 {
        context.out.hint(&format!("`{program} add FILE` adds rows"));
    } else if plans.is_empty() {
        context.out.hint(&format!("`{program} prompt add FILE --model MODEL` adds a prompt"));
    } else if total(plans).due() > 20 {
        context.out.hint(&format!(
            "`{program} run --limit 20` tries the first 20, `{program} run` does all"
        ));
    } else if total(plans).due() > 0 {
        context.out.hint(&format!("`{program} run` does it"));
    }
    Ok(())
}

/// The plan as `plan --json` and `run --dry-run --json` print it.
pub(crate) fn as_json(plans: &[PromptPlan], rows: u64) -> Value {
    let prompts: Vec<Value> = plans
        .iter()
        .map(|plan| {
            let (left, estimate) = (plan.left, plan.estimate);
            json!({
                "name": plan.prompt.name, "version": plan.prompt.version,
                "model": plan.prompt.spec.model.to_string(),
                "due": left.due(), "route": "realtime",
                "reasons": {"new": left.new, "failed": left.failed, "truncated": left.truncated, "in_doubt": left.in_doubt},
                "not_due": {"answered": left.answered, "under_way": left.under_way, "held": left.held,
                            "failed": left.failed_for_good, "truncated": left.at_token_limit},
                "tokens": {"input": estimate.input_tokens, "output": estimate.output_tokens,
                           "output_at_most": estimate.most_output_tokens},
                "cost_usd": estimate.cost.map(NanoUsd::usd), "cost_usd_at_most": estimate.most_cost.map(NanoUsd::usd),
            })
        })
        .collect();
    json!({"rows": rows, "due": total(plans).due(), "prompts": prompts})
}
