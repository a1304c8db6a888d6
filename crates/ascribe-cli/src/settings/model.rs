//! The model that the arguments name.

use std::collections::BTreeMap;
use std::path::Path;

use ascribe::core::{Arrangement, Device, Location, OutputKind, Tensor};
use ascribe::models::preprocess::{Channels, Preprocessing, Resize};
use ascribe::{Model, OpenOptions};

use crate::args::{ChannelOrder, ModelArgs, Precision};
use crate::error::{Failure, Result};
use crate::progress;

/// `NAME=VALUE`, or a value without a name.
fn named(text: &str) -> (&str, &str) {
    text.rsplit_once('=').map_or(("", text.trim()), |(name, value)| (name.trim(), value.trim()))
}

fn layouts(args: &ModelArgs) -> Result<BTreeMap<String, Arrangement>> {
    let one = |text: &String| {
        let (name, letters) = named(text);
        Ok((name.to_string(), ascribe::core::layout(letters)?))
    };
    args.layout.iter().map(one).collect()
}

fn shapes(args: &ModelArgs) -> Result<BTreeMap<String, Vec<usize>>> {
    let one = |text: &String| {
        let (name, sides) = named(text);
        let shape: Option<Vec<usize>> =
            sides.split(',').map(|n| n.trim().parse().ok().filter(|&n| n > 0)).collect();
        match shape {
            Some(shape) if !name.is_empty() => Ok((name.to_string(), shape)),
            _ => Err(Failure::request(format!(
                "--shape '{text}': expected NAME=N,N,… with a length for each axis of the input, the batch included"
            ))),
        }
    };
    args.shape.iter().map(one).collect()
}

/// The inputs that are constants: whole numbers as integers.
fn constants(args: &ModelArgs) -> Result<BTreeMap<String, Tensor>> {
    let one = |text: &String| {
        let (name, value) = named(text);
        let device = &Device::Cpu;
        let tensor = match (value.parse::<i64>(), value.parse::<f64>()) {
            (Ok(number), _) => Tensor::new(number, device),
            (_, Ok(number)) if number.is_finite() => Tensor::new(number, device),
            _ => return Err(Failure::request(format!("--constant '{text}': expected NAME=NUMBER"))),
        };
        Ok((name.to_string(), tensor.map_err(ascribe::core::Error::from)?))
    };
    args.constant.iter().map(one).collect()
}

/// Opens the model that the arguments name, for an input if one is given.
pub fn model(args: &ModelArgs, input: Option<&Path>, location: &Location) -> Result<Model> {
    let name = args.model.as_deref().unwrap_or(ascribe::DEFAULT_MODEL);
    let parameters = Path::new(name).extension().is_some_and(|e| !e.eq_ignore_ascii_case("onnx"))
        && Path::new(name).exists();
    if let Some(architecture) = args.arch.as_deref().filter(|_| !parameters) {
        return Err(Failure::request(format!(
            "--arch {architecture}: only parameter files (.safetensors, .pth, .ckpt, …) need an architecture; \
             '{name}' has its own"
        )));
    }
    let options = OpenOptions {
        architecture: args.arch.clone(),
        labels: args.labels.clone(),
        double: args.dtype == Precision::F64,
        layouts: layouts(args)?,
        shapes: shapes(args)?,
        constants: constants(args)?,
        task: args.task.as_deref().map(str::parse::<OutputKind>).transpose()?,
        output: args.model_output.clone(),
        keep: [location.layer(), location.neuron().map(|(node, _)| node)]
            .into_iter()
            .flatten()
            .map(Into::into)
            .collect(),
        ..OpenOptions::default()
    };
    let mut model = match input {
        Some(input) => Model::open_for(name, &options, input)?,
        None => Model::open(name, &options)?,
    };
    model.preprocessing = preprocessing(args, &model)?;
    for note in &model.notes {
        progress::note(note);
    }
    Ok(model)
}

fn preprocessing(args: &ModelArgs, model: &Model) -> Result<Preprocessing> {
    let mut changed = model.preprocessing.clone();
    let asked = args.channels.map(|channels| match channels {
        ChannelOrder::Rgb => Channels::Rgb,
        ChannelOrder::Bgr => Channels::Bgr,
        ChannelOrder::Grey => Channels::Grey,
    });
    let given = [&args.mean, &args.std];
    let one_each = given.iter().all(|values| values.as_ref().is_some_and(|values| values.len() == 1));
    let count = match (asked, model.channels()) {
        (Some(channels), _) => Some(channels.count()),
        (None, Some(count)) => given.iter().any(|values| values.is_some()).then_some(count),
        (None, None) => one_each.then_some(1),
    };
    if let Some(count) = count {
        changed = changed.for_channels(count);
    }
    changed.channels = asked.unwrap_or(changed.channels);
    let each = |values: &[f64]| match *values {
        // One number holds for all channels.
        [one] => vec![one; changed.channels.count()],
        _ => values.to_vec(),
    };
    let (mean, std) = (args.mean.as_deref().map(each), args.std.as_deref().map(each));
    changed.mean = mean.unwrap_or(changed.mean);
    changed.std = std.unwrap_or(changed.std);
    changed.exif_orientation &= !args.no_exif;
    let pair = |sides: &[usize], name: &str| match *sides {
        [one] => Ok([one, one]),
        [height, width] => Ok([height, width]),
        _ => Err(Failure::request(format!(
            "--{name} has {} numbers; expected one, or HEIGHT,WIDTH",
            sides.len()
        ))),
    };
    match args.resize.as_deref() {
        None => {}
        Some([shorter]) => changed.resize = Some(Resize::Shorter(*shorter)),
        Some(sides) => changed.resize = Some(Resize::Exact(pair(sides, "resize")?)),
    }
    if let Some(sides) = args.crop.as_deref() {
        changed.crop = Some(pair(sides, "crop")?);
    }
    changed.validate()?;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use ascribe::core::{GraphBuilder, ops::Pointwise};

    use super::*;

    #[test]
    fn preprocessing_follows_the_channels_of_the_network() {
        let model = |channels: Option<usize>| {
            let mut b = GraphBuilder::new();
            let x = b.input("x", &[channels, None, None]);
            let y = b.op("y", Pointwise::Relu, &[x]).unwrap();
            Model::new("net", b.finish(&[y]).unwrap(), Preprocessing::imagenet())
        };
        let numbers = |value: f64, count: usize| Some(vec![value; count]);
        let args = |count| ModelArgs {
            mean: numbers(0.1307, count),
            std: numbers(0.3081, count),
            ..ModelArgs::default()
        };
        for channels in [Some(1), None] {
            let found = preprocessing(&args(1), &model(channels)).unwrap();
            assert_eq!((found.channels, found.mean, found.std), (Channels::Grey, vec![0.1307], vec![0.3081]));
            assert!(found.exif_orientation);
        }
        let found = preprocessing(&args(1), &model(Some(3))).unwrap();
        assert_eq!((found.mean, found.std), (vec![0.1307; 3], vec![0.3081; 3]));
        let error = preprocessing(&args(3), &model(Some(1))).unwrap_err().to_string();
        assert!(error.contains("'mean'") && error.contains("3 values"), "{error}");
        let asked = |channels| ModelArgs { channels: Some(channels), no_exif: true, ..ModelArgs::default() };
        let found = preprocessing(&asked(ChannelOrder::Grey), &model(None)).unwrap();
        assert_eq!((found.channels, found.mean.len(), found.exif_orientation), (Channels::Grey, 1, false));
        let found = preprocessing(&asked(ChannelOrder::Bgr), &model(Some(3))).unwrap();
        assert_eq!((found.channels, found.mean), (Channels::Bgr, Preprocessing::imagenet().mean));
        // Without arguments, the model's own preprocessing stays.
        let own = preprocessing(&ModelArgs::default(), &model(Some(3))).unwrap();
        assert_eq!(own, Preprocessing::imagenet());
    }
}
