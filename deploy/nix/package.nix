# The binary, its unit, manual and completions.
{ lib, rustPlatform, installShellFiles }:
rustPlatform.buildRustPackage {
  pname = "inlet";
  version = "0.1.0";
  src = lib.cleanSource ../..;
  cargoLock.lockFile = ../../Cargo.lock;
  cargoBuildFlags = [ "--package" "inlet" ];
  doCheck = false; # the tests start a bitcoind and other wallets: .ci/run
  nativeBuildInputs = [ installShellFiles ];
  postInstall = ''
    install -D -m 644 deploy/systemd/inlet.service $out/lib/systemd/system/inlet.service
    installManPage deploy/man/inlet.1
    installShellCompletion deploy/completions/inlet.bash deploy/completions/_inlet deploy/completions/inlet.fish
  '';
  meta = {
    description = "Lightning Service Provider in one binary for low-power hardware";
    license = with lib.licenses; [ mit asl20 ];
    mainProgram = "inlet";
    platforms = [ "x86_64-linux" "aarch64-linux" ];
  };
}
