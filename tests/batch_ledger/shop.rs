//! A project at a simulated provider of its own, and what must hold between its file and the provider's ledger.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::batches::runs::{Running, add, exported, query};
use crate::support::{Folder, Said, Simulator};

/// A project at a simulated provider in a process of its own.
pub(crate) struct Shop {
    pub(crate) folder: Folder,
    pub(crate) simulator: Simulator,
    rows: usize,
}

/// What the provider has booked for one body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) charged: u64,
    pub(crate) batch_charged: u64,
}

/// Texts that differ, of so many words.
pub(crate) fn texts(rows: usize, words: usize) -> Vec<String> {
    (1..=rows).map(|row| format!("row {row}{}", " word".repeat(words))).collect()
}

impl Shop {
    /// Makes a project of so many short rows.
    pub(crate) fn of(rows: usize, simulate: &[&str]) -> Self {
        Self::open(&texts(rows, 2), simulate, &["--prompt", "Say: {{ text }}"])
    }

    /// Makes a project of these texts, with arguments for the simulator and for `init`.
    pub(crate) fn open(texts: &[String], simulate: &[&str], init: &[&str]) -> Self {
        let folder = Folder::new();
        let simulator = Simulator::start(&folder, simulate);
        let base_url = simulator.base_url();
        let args = ["init", "--model", "simulated/small", "--base-url", base_url];
        folder.ok(&[&args, init].concat());
        add(&folder, "rows.csv", texts);
        Self { folder, simulator, rows: texts.len() }
    }

    /// Runs by the batch route to the end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.start(args).end()
    }

    /// Starts a run by the batch route.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let all = [&["run", "--route", "batch", "--poll", "20ms"], args].concat();
        Running::start(&self.folder, &all)
    }

    /// One of the ledger's totals.
    pub(crate) fn total(&self, name: &str) -> u64 {
        self.simulator.total(name)
    }

    /// How often a fault has struck.
    pub(crate) fn struck(&self, fault: &str) -> u64 {
        self.simulator.ledger()["totals"]["faults"][fault].as_u64().unwrap_or(0)
    }

    /// Asks the record for one number.
    pub(crate) fn number(&self, sql: &str) -> u64 {
        query(&self.folder, sql)[0][0].parse().unwrap()
    }

    /// What is booked, by the fingerprint of the body.
    pub(crate) fn accounts(&self) -> BTreeMap<String, Account> {
        let ledger = self.simulator.ledger();
        let count = |account: &Value, name: &str| account[name].as_u64().unwrap();
        let bodies = ledger["bodies"].as_object().unwrap().iter();
        bodies
            .map(|(body, account)| {
                let charged = count(account, "charged");
                let batch_charged = count(account, "batch_charged");
                (body.clone(), Account { charged, batch_charged })
            })
            .collect()
    }

    /// What must hold at the end of every run: the books agree, and nothing was charged again.
    #[track_caller]
    pub(crate) fn balances(&self) {
        assert_eq!(self.total("charged_again"), 0);
        let created = "SELECT count(DISTINCT provider_id) FROM batch WHERE provider_id IS NOT NULL";
        assert_eq!(self.total("batches_created"), self.number(created), "each batch is made once");
        let lines = "SELECT count(*) FROM attempt WHERE route = 'batch'";
        assert!(self.total("batch_charged_requests") <= self.number(lines));
        assert_eq!(self.number("SELECT count(*) FROM attempt WHERE outcome IS NULL"), 0);
        assert_eq!(self.number("SELECT count(*) FROM batch WHERE status <> 'collected'"), 0);
        // What no line on record tells of was charged for nothing, and is all that the sums may differ by.
        let known =
            |column| self.number(&format!("SELECT coalesce(sum({column}), 0) FROM attempt"));
        for (ours, theirs) in [("input_tokens", "input_tokens"), ("output_tokens", "output_tokens")]
        {
            assert!(known(ours) <= self.total(theirs), "{ours}");
        }
    }

    /// What must hold where every reply that was charged can be read: the sums are the same.
    #[track_caller]
    pub(crate) fn balances_to_the_token(&self) {
        self.balances();
        let status = self.folder.status();
        for (ours, theirs) in [("input", "input_tokens"), ("output", "output_tokens")] {
            assert_eq!(status["tokens"][ours], self.total(theirs), "{ours}");
        }
        let charged = "SELECT count(*) FROM attempt WHERE outcome IN ('answered', 'truncated')";
        assert_eq!(self.number(charged), self.total("charged_requests"));
    }

    /// Demands that each row has an answer, and that another run does nothing.
    #[track_caller]
    pub(crate) fn all_answered(&self) {
        let rows = exported(&self.folder, &["state", "answer"]);
        assert_eq!(rows.len(), self.rows);
        let is_answered = |row: &&Vec<String>| row[0] == "answered" && !row[1].is_empty();
        assert_eq!(rows.iter().filter(is_answered).count(), self.rows, "{rows:?}");
        let calls = self.calls();
        let said = self.run(&[]).ends(0);
        assert!(said.stderr.contains("nothing to do"), "{said:?}");
        assert_eq!(self.calls(), calls, "nothing is left to do");
    }

    fn calls(&self) -> [u64; 3] {
        ["requests", "files_uploaded", "batches_created"].map(|name| self.total(name))
    }

    /// Demands that each row's own body was charged once, by whichever way.
    #[track_caller]
    pub(crate) fn each_charged_once(&self) {
        let sql = "SELECT lower(hex(fingerprint)) FROM request ORDER BY 1";
        let mine: Vec<String> = query(&self.folder, sql).into_iter().flatten().collect();
        let theirs = self.accounts();
        assert_eq!(theirs.keys().collect::<Vec<_>>(), mine.iter().collect::<Vec<_>>());
        let wrong: Vec<_> = theirs.iter().filter(|(_, account)| account.charged != 1).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
