//! NVIDIA's management library: what the driver says of its cards, as plain values. Blocking, and a driver in trouble may
//! not come back: call on a lane. Every card is asked for itself, and what one can't tell is left out.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{
    EccCounter, MemoryError, RetirementCause, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id;
use nvml_wrapper::{Device, Nvml};

use crate::clean;
use crate::redact::Clean;

/// Cards that are looked at; no machine that is known has more than a few tens.
const MAX_CARDS: u32 = 64;
/// Processes that are taken of one card.
const MAX_PROCESSES: usize = 1_000;

const MEMORY: &str = "memory";

/// Why the driver, or one card, can't be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// There is no library to ask.
    NoLibrary(Clean),
    /// What was loaded is not that library, or too old a one.
    NotNvml(Clean),
    /// The library is there and the kernel's driver is not.
    NotLoaded,
    /// Library and driver are of different versions, as after an upgrade without a restart.
    Mismatch,
    /// This user may not ask.
    NoPermission,
    /// The card fell off the bus.
    Lost,
    /// The card needs a reset before it can be used again.
    ResetRequired,
    /// The card has no power, no interrupts, or a broken information memory.
    Unusable(Clean),
    /// Anything else, in the library's words.
    Other(Clean),
}

impl From<NvmlError> for Trouble {
    fn from(error: NvmlError) -> Self {
        let said = Clean::line(&error.to_string(), 200);
        match error {
            NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => Self::NoLibrary(said),
            NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => Self::NotNvml(said),
            NvmlError::DriverNotLoaded => Self::NotLoaded,
            NvmlError::LibRmVersionMismatch => Self::Mismatch,
            NvmlError::NoPermission | NvmlError::OperatingSystem => Self::NoPermission,
            NvmlError::GpuLost => Self::Lost,
            NvmlError::ResetRequired => Self::ResetRequired,
            NvmlError::InsufficientPower | NvmlError::IrqIssue | NvmlError::CorruptedInfoROM => Self::Unusable(said),
            _ => Self::Other(said),
        }
    }
}

/// What the driver says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    /// The driver's version.
    pub driver: Option<Clean>,
    /// The cards in the driver's order, or why one can't be asked.
    pub cards: Vec<Result<Card, Trouble>>,
    /// Cards beyond the first 64.
    pub left_out: u32,
}

/// What a card says. A field is none where the card does not know such a thing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Card {
    /// Its identity, the same for its life (`GPU-…`).
    pub uuid: Option<Clean>,
    /// The product.
    pub name: Option<Clean>,
    /// Its place: domain, bus and device.
    pub pci: Option<Pci>,
    /// Bytes of its memory in all, without what the driver keeps for itself.
    pub memory_bytes: Option<u64>,
    /// What moves, looked at several times.
    pub samples: Vec<Sample>,
    /// Degrees at which the hardware slows the card down.
    pub slowdown_c: Option<u32>,
    /// Degrees at which it switches itself off.
    pub shutdown_c: Option<u32>,
    /// Milliwatts that it may draw.
    pub power_limit_mw: Option<u32>,
    /// Percent of the first fan's speed.
    pub fan_percent: Option<u32>,
    /// Whether its memory corrects errors.
    pub ecc: Option<bool>,
    /// Errors that could not be corrected since the driver was loaded.
    pub uncorrected: Option<u64>,
    /// The same over the card's life.
    pub uncorrected_ever: Option<u64>,
    /// Errors that were corrected since the driver was loaded.
    pub corrected: Option<u64>,
    /// Pages taken out of use.
    pub pages_retired: Option<u64>,
    /// Whether pages wait for a reset to be taken out of use.
    pub pages_pending: Option<bool>,
    /// Rows replaced by spare ones.
    pub rows_remapped: Option<u64>,
    /// Whether rows wait for a reset to be replaced.
    pub rows_pending: Option<bool>,
    /// Whether a row could not be replaced: the spare ones are used up.
    pub rows_failed: Option<bool>,
    /// Whether the driver stays loaded while nobody uses the card.
    pub persistence: Option<bool>,
    /// Whether the card is cut into instances.
    pub mig: Option<bool>,
    /// Processes on the card and the bytes of its memory that each holds, where that is told.
    pub processes: Option<Vec<(u32, Option<u64>)>>,
    /// What failed though the card knows it, by name, with the library's words.
    pub failed: Vec<(&'static str, Clean)>,
    /// What the card does not know.
    pub not_told: Vec<&'static str>,
    /// Whether the driver is too old to be asked for the memory (before 510, of 2022).
    pub too_old: bool,
}

/// A place on the bus, as the kernel's log names it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pci {
    /// The domain.
    pub domain: u32,
    /// The bus.
    pub bus: u32,
    /// The device on the bus.
    pub device: u32,
}

/// What moves, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Percent of the time in which something ran on the card.
    pub busy_percent: Option<u32>,
    /// Percent of the time in which its memory was read or written.
    pub memory_busy_percent: Option<u32>,
    /// Degrees.
    pub celsius: Option<u32>,
    /// Milliwatts.
    pub milliwatts: Option<u32>,
    /// Bytes of memory that are free.
    pub free_bytes: Option<u64>,
    /// Bytes of memory in use.
    pub used_bytes: Option<u64>,
    /// Why its clocks are held down.
    pub throttle: Option<Throttle>,
}

/// Why clocks are held down: hardware and heat first, then what is no trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the card's own bits")]
pub struct Throttle {
    /// The hardware slowed it down for heat.
    pub hardware_thermal: bool,
    /// The driver slowed it down for heat.
    pub software_thermal: bool,
    /// The power supply asked for less.
    pub power_brake: bool,
    /// The hardware slowed it down, for any of these or a change of state.
    pub hardware: bool,
    /// The power limit, which somebody set.
    pub power_cap: bool,
    /// Clocks that somebody set, here or for a group of cards.
    pub by_setting: bool,
    /// Nothing runs.
    pub idle: bool,
}

impl From<ThrottleReasons> for Throttle {
    fn from(bits: ThrottleReasons) -> Self {
        let settings = ThrottleReasons::APPLICATIONS_CLOCKS_SETTING
            | ThrottleReasons::SYNC_BOOST
            | ThrottleReasons::DISPLAY_CLOCK_SETTING;
        Self {
            hardware_thermal: bits.contains(ThrottleReasons::HW_THERMAL_SLOWDOWN),
            software_thermal: bits.contains(ThrottleReasons::SW_THERMAL_SLOWDOWN),
            power_brake: bits.contains(ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN),
            hardware: bits.contains(ThrottleReasons::HW_SLOWDOWN),
            power_cap: bits.contains(ThrottleReasons::SW_POWER_CAP),
            by_setting: bits.intersects(settings),
            idle: bits.contains(ThrottleReasons::GPU_IDLE),
        }
    }
}

/// What a card has to tell if it knows it: without these it was not looked at. Some cards fail other questions for life.
pub const ESSENTIAL: [&str; 3] = ["memory", "utilisation", "temperature"];

/// Asks the driver for its cards: each is sampled `times` times, `apart` from each other. Without a `library` the loader
/// looks for the usual one. The library is loaded, asked and let go again.
pub fn look(library: Option<&Path>, times: u32, apart: Duration) -> Result<Seen, Trouble> {
    let mut builder = Nvml::builder();
    if let Some(library) = library {
        builder.lib_path(OsStr::new(library));
    }
    let nvml = builder.init()?;
    if let Err(error) = nvml.lib().nvmlShutdown.as_ref() {
        let why = Clean::line(&error.to_string(), 200);
        // Letting go of the library would call this without asking whether it is there.
        std::mem::forget(nvml);
        return Err(Trouble::NotNvml(why));
    }
    let count = nvml.device_count()?;
    let mut devices: Vec<Result<Asked<'_>, Trouble>> = (0..count.min(MAX_CARDS))
        .map(|index| nvml.device_by_index(index).map(Asked::new).map_err(Trouble::from))
        .collect();
    for time in 0..times {
        if time > 0 {
            std::thread::sleep(apart);
        }
        for device in devices.iter_mut().flatten() {
            device.sample();
        }
    }
    let cards = devices.into_iter().map(|device| device.and_then(Asked::card)).collect();
    Ok(Seen {
        driver: nvml.sys_driver_version().ok().map(|version| Clean::line(&version, 80)),
        cards,
        left_out: count.saturating_sub(MAX_CARDS),
    })
}

/// A card while it is asked.
struct Asked<'a> {
    device: Device<'a>,
    card: Card,
    /// What ended the asking.
    trouble: Option<Trouble>,
}

impl<'a> Asked<'a> {
    fn new(device: Device<'a>) -> Self {
        Self { device, card: Card::default(), trouble: None }
    }

    /// One answer: none where the card does not know it, where it fails, or where the card is in such trouble that
    /// nothing more is asked.
    fn ask<T>(&mut self, what: &'static str, question: impl FnOnce(&Device<'a>) -> Result<T, NvmlError>) -> Option<T> {
        if self.trouble.is_some() {
            return None;
        }
        match question(&self.device) {
            Ok(answer) => return Some(answer),
            Err(NvmlError::GpuLost) => self.trouble = Some(Trouble::Lost),
            Err(NvmlError::ResetRequired) => self.trouble = Some(Trouble::ResetRequired),
            Err(NvmlError::FailedToLoadSymbol(_)) if what == MEMORY => self.card.too_old = true,
            Err(error) if does_not_know(&error) && !(ESSENTIAL.contains(&what) && refused(&error)) => {
                if !self.card.not_told.contains(&what) {
                    self.card.not_told.push(what);
                }
            }
            Err(error) => {
                if !self.card.failed.iter().any(|(failed, _)| *failed == what) {
                    self.card.failed.push((what, Clean::line(&error.to_string(), 120)));
                }
            }
        }
        None
    }

    fn sample(&mut self) {
        let mut sample = Sample::default();
        if let Some(busy) = self.ask("utilisation", Device::utilization_rates) {
            sample.busy_percent = Some(busy.gpu);
            sample.memory_busy_percent = Some(busy.memory);
        }
        sample.celsius = self.ask("temperature", |device| device.temperature(TemperatureSensor::Gpu));
        sample.milliwatts = self.ask("power", Device::power_usage);
        if let Some(memory) = self.ask(MEMORY, Device::memory_info) {
            self.card.memory_bytes = Some(memory.free.saturating_add(memory.used));
            sample.free_bytes = Some(memory.free);
            sample.used_bytes = Some(memory.used);
        }
        sample.throttle = self.ask("throttling", Device::current_throttle_reasons).map(Throttle::from);
        self.card.samples.push(sample);
    }

    /// What else there is to know.
    fn card(mut self) -> Result<Card, Trouble> {
        self.card.uuid = self.ask("uuid", Device::uuid).map(|uuid| Clean::line(&uuid, 96));
        self.card.name = self.ask("name", Device::name).map(|name| Clean::line(&name, 96));
        self.card.pci =
            self.ask("place", Device::pci_info).map(|pci| Pci { domain: pci.domain, bus: pci.bus, device: pci.device });
        self.card.slowdown_c =
            self.ask("thresholds", |device| device.temperature_threshold(TemperatureThreshold::Slowdown));
        self.card.shutdown_c =
            self.ask("thresholds", |device| device.temperature_threshold(TemperatureThreshold::Shutdown));
        self.card.power_limit_mw = self.ask("power limit", Device::enforced_power_limit);
        self.card.fan_percent = self.ask("fan", |device| device.fan_speed(0));
        self.card.persistence = self.ask("persistence", Device::is_in_persistent_mode);
        self.card.mig = self.ask("instances", Device::mig_mode).map(|mode| mode.current == 1);
        self.memory_errors();
        self.card.processes = self.processes();
        match self.trouble {
            Some(trouble) => Err(trouble),
            None => Ok(self.card),
        }
    }

    fn memory_errors(&mut self) {
        self.card.ecc = self.ask("ECC", Device::is_ecc_enabled).map(|ecc| ecc.currently_enabled);
        let mut errors = |of, since| self.ask("ECC", |device| device.total_ecc_errors(of, since));
        let uncorrected = errors(MemoryError::Uncorrected, EccCounter::Volatile);
        let uncorrected_ever = errors(MemoryError::Uncorrected, EccCounter::Aggregate);
        let corrected = errors(MemoryError::Corrected, EccCounter::Volatile);
        let mut retired =
            |cause| self.ask("retired pages", |device| device.retired_pages(cause)).map(|pages| pages.len());
        let single = retired(RetirementCause::MultipleSingleBitEccErrors);
        let double = retired(RetirementCause::DoubleBitEccError);
        let pages = single.into_iter().chain(double).map(|pages| u64::try_from(pages).unwrap_or(u64::MAX));
        let pages_retired = (single.is_some() || double.is_some()).then(|| pages.sum());
        let pages_pending = self.ask("retired pages", Device::are_pages_pending_retired);
        let [of_corrected, of_uncorrected, pending, failed] = self.rows();
        self.card = Card {
            uncorrected,
            uncorrected_ever,
            corrected,
            pages_retired,
            pages_pending,
            rows_remapped: of_corrected.map(|rows| rows.saturating_add(of_uncorrected.unwrap_or(0))),
            rows_pending: pending.map(|pending| pending > 0),
            rows_failed: failed.map(|failed| failed > 0),
            ..std::mem::take(&mut self.card)
        };
    }

    /// Rows replaced for corrected and for uncorrected errors, whether some wait for it, whether one could not be.
    fn rows(&mut self) -> [Option<u64>; 4] {
        let ids = [
            field_id::NVML_FI_DEV_REMAPPED_COR,
            field_id::NVML_FI_DEV_REMAPPED_UNC,
            field_id::NVML_FI_DEV_REMAPPED_PENDING,
            field_id::NVML_FI_DEV_REMAPPED_FAILURE,
        ];
        let answers =
            self.ask("remapped rows", |device| device.field_values_for(&ids.map(FieldId))).unwrap_or_default();
        ids.map(|id| {
            let answer = answers.iter().flatten().find(|answer| answer.field.0 == id)?;
            match answer.value {
                Ok(SampleValue::U32(n)) => Some(u64::from(n)),
                Ok(SampleValue::U64(n)) => Some(n),
                Ok(SampleValue::I64(n)) => u64::try_from(n).ok(),
                Ok(SampleValue::F64(_)) | Err(_) => None,
            }
        })
    }

    /// A process that computes and draws is listed once.
    fn processes(&mut self) -> Option<Vec<(u32, Option<u64>)>> {
        let computing = self.ask("processes", Device::running_compute_processes);
        let drawing = self.ask("processes", Device::running_graphics_processes);
        if computing.is_none() && drawing.is_none() {
            return None;
        }
        let mut processes: Vec<(u32, Option<u64>)> = Vec::new();
        for process in computing.into_iter().chain(drawing).flatten().take(MAX_PROCESSES) {
            let bytes = match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            };
            match processes.iter_mut().find(|(pid, _)| *pid == process.pid) {
                Some((_, known)) => *known = (*known).max(bytes),
                None => processes.push((process.pid, bytes)),
            }
        }
        Some(processes)
    }
}

/// Whether a question that every card has an answer to was turned down.
fn refused(error: &NvmlError) -> bool {
    matches!(error, NvmlError::NoPermission | NvmlError::NoData | NvmlError::InvalidArg)
}

/// Whether an error only says that a card of this kind, or a driver of this age, has no such thing.
fn does_not_know(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::NotSupported
            | NvmlError::NoPermission
            | NvmlError::NotFound
            | NvmlError::NoData
            | NvmlError::InvalidArg
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::FunctionNotFound
            | NvmlError::UnexpectedVariant(_)
    )
}

impl Trouble {
    /// In words, a fragment.
    #[must_use]
    pub fn said(&self) -> Clean {
        match self {
            Self::NoLibrary(why) => clean!("NVIDIA's management library can't be loaded: {}", why.quoted()),
            Self::NotNvml(why) => clean!("what was loaded is no usable management library: {}", why.quoted()),
            Self::NotLoaded => Clean::new("the NVIDIA driver is not loaded"),
            Self::Mismatch => Clean::new("the loaded NVIDIA driver and its library are of different versions"),
            Self::NoPermission => Clean::new("this user may not ask the NVIDIA driver"),
            Self::Lost => Clean::new("has fallen off the bus"),
            Self::ResetRequired => Clean::new("needs a reset before it can be used again"),
            Self::Unusable(why) => clean!("can't be used: {why}"),
            Self::Other(why) => clean!("the NVIDIA driver answers with an error: {why}"),
        }
    }
}
