//! Reads everything that a project file has to say, as the commands that only look do.

use std::io;
use std::path::Path;

use overnight::domain::{AttemptId, RequestId, RowId, UnixMs};
use overnight::export::{
    AnswerKind, CsvStyle, Details, ExportError, Form, Format, Layout, Naming, PromptPart,
    Selection, Shape, Table,
};
use overnight::machine::plan::Liveness;
use overnight::machine::render::Template;
use overnight::machine::request::InDoubtPolicy;
use overnight::store::{PromptRecord, Store, StoreError};

const NOW: UnixMs = UnixMs(1_795_435_200_000);

/// How much of one table is looked at piece by piece.
const PAGE: u32 = 20;

/// Reads a whole project. Whatever is wrong with it is an error, told in words; the bytes of the export are returned.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let store = match Store::open_to_read(path, NOW) {
        Ok(store) => store,
        Err(error) => {
            tell(&error);
            return None;
        }
    };
    let facts = [
        store.project().map(drop),
        store.format().map(drop),
        store.last_run().map(drop),
        store.positions().map(drop),
        store.failure_examples().map(drop),
        store.source_paths().map(drop),
        store.live_rows().map(drop),
        store.sources().map(drop),
        store.spending().map(drop),
        store.state_counts(false).map(drop),
        store.state_counts(true).map(drop),
        store.keys_near("k").map(drop),
        store.removed_at("k").map(drop),
    ];
    facts.iter().filter_map(|fact| fact.as_ref().err()).for_each(tell);
    told(batches(&store));
    let prompts = told(store.prompts())?;
    told(left(&store, &prompts));
    told(trails(&store, &prompts));
    let columns = told(store.columns())?;
    let live: Vec<&PromptRecord> = prompts.iter().filter(|prompt| prompt.is_live).collect();
    let csv = export(&store, &columns, &live, Format::Csv(CsvStyle::default()));
    export(&store, &columns, &live, Format::Jsonl).and(csv)
}

fn told<T>(result: Result<T, StoreError>) -> Option<T> {
    result.inspect_err(tell).ok()
}

fn tell(error: &StoreError) {
    let text = error.to_string();
    assert!(text.len() <= 1 << 20, "a message of {} bytes", text.len());
    let _ = error.may_pass();
}

fn batches(store: &Store) -> Result<(), StoreError> {
    for batch in store.batches()?.iter().take(PAGE as usize) {
        store.prompts_of_batch(batch.id)?;
        store.input_lines(batch.id, (AttemptId(0), PAGE))?;
    }
    store.open_batches()?;
    store.batch_costs()?;
    store.queue_limit("s", "m")?;
    Ok(())
}

fn left(store: &Store, prompts: &[PromptRecord]) -> Result<(), StoreError> {
    for policy in [InDoubtPolicy::Resend, InDoubtPolicy::Hold] {
        for liveness in [Liveness::Idle, Liveness::Running] {
            store.left(prompts, policy, liveness)?;
        }
    }
    for prompt in prompts {
        let open = store.open_requests(prompt.id, RequestId(0), PAGE)?;
        let unasked = store.unasked_rows(prompt.id, RowId(0), PAGE)?;
        if let Ok(template) = Template::compile(&prompt.spec) {
            for due in open.iter().chain(&unasked) {
                let _ = template.render(&due.cells).map_err(|error| error.to_string());
            }
        }
        store.average_output_tokens(prompt.id)?;
    }
    Ok(())
}

fn trails(store: &Store, prompts: &[PromptRecord]) -> Result<(), StoreError> {
    for position in 1..=i64::from(PAGE) {
        let Some(row) = store.find_row(&format!("#{position}"))? else { continue };
        for prompt in prompts {
            let Some(request) = told(store.trail(row.id, prompt.id)).flatten() else { continue };
            for attempt in &request.attempts {
                store.place_of(attempt.request)?;
            }
        }
    }
    Ok(())
}

fn export(
    store: &Store,
    columns: &[String],
    prompts: &[&PromptRecord],
    format: Format,
) -> Option<Vec<u8>> {
    let part = |prompt: &&PromptRecord| PromptPart {
        name: prompt.name.clone(),
        version: prompt.version,
        model: prompt.spec.model.to_string(),
        answer: AnswerKind::Object(vec!["answer".to_owned()]),
    };
    let layout = Layout::new(Shape {
        columns: columns.to_vec(),
        prompts: prompts.iter().map(part).collect(),
        naming: Naming::ByPrompt,
        details: Details::With,
        form: Form::Wide,
        liveness: Liveness::Idle,
    });
    let mut table = Table::start(Vec::new(), format, layout, Selection(Vec::new())).unwrap();
    let ids: Vec<_> = prompts.iter().map(|prompt| prompt.id).collect();
    let rows = store.each_answer(&ids, |row| table.row(row).map_err(Stop::Export));
    match rows {
        Ok(()) => table.finish().ok().map(|(bytes, _)| bytes),
        Err(Stop::Store(error)) => {
            tell(&error);
            None
        }
        Err(Stop::Export(error)) => {
            assert!(error.to_string().len() <= 1 << 20);
            None
        }
    }
}

enum Stop {
    Store(StoreError),
    Export(ExportError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Returns a folder for one project, in memory where there is one.
pub(super) fn folder() -> io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}
