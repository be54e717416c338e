# A NixOS module: imports = [ ./deploy/nix/module.nix ]; services.inlet.enable = true;
#
# It gives the service that the Debian package has (deploy/systemd/inlet.service), as Nix says it. Settings become
# /etc/inlet/inlet.toml and are world-readable in the Nix store: a bitcoind's password belongs into a cookie file
# (chain.backend = "bitcoind:cookie=/path/.cookie@http://HOST:PORT") or into environmentFile.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.inlet;
  toml = pkgs.formats.toml { };
  settings = toml.generate "inlet.toml" cfg.settings;
in
{
  options.services.inlet = {
    enable = lib.mkEnableOption "Inlet, a Lightning Service Provider";
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = "deploy/nix/package.nix";
      description = "The package to run.";
    };
    settings = lib.mkOption {
      type = toml.type;
      default = { };
      example = { node.network = "signet"; node.alias = "corner shop"; };
      description = "inlet.toml; see node/docs/config.md.";
    };
    environmentFile = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      description = "Variables such as INLET_CHAIN_BACKEND that must not be in the Nix store.";
    };
    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = "Let Lightning peers in (port 9735).";
    };
  };

  config = lib.mkIf cfg.enable {
    users.users.inlet = { isSystemUser = true; group = "inlet"; home = "/var/lib/inlet"; };
    users.groups.inlet = { };
    users.groups.inlet-monitor = { };
    environment.systemPackages = [ cfg.package ];
    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ 9735 ];
    systemd.tmpfiles.rules = [
      "d /run/inlet 0755 inlet inlet"
      "d /run/inlet/admin 0750 inlet inlet"
      "d /run/inlet/monitor 2750 inlet inlet-monitor"
    ];
    systemd.packages = [ cfg.package ];
    systemd.services.inlet = {
      wantedBy = [ "multi-user.target" ];
      serviceConfig.EnvironmentFile = lib.mkIf (cfg.environmentFile != null) cfg.environmentFile;
      serviceConfig.ExecStart = [ "" "${cfg.package}/bin/inlet run --data-dir /var/lib/inlet --config ${settings}" ];
    };
  };
}
