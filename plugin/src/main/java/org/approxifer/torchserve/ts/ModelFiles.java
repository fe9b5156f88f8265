package org.approxifer.torchserve.ts;

import com.google.gson.Gson;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.Map;
import java.util.TreeMap;
import org.approxifer.torchserve.core.Signer;
import org.pytorch.serve.wlm.Model;

/**
 * What the plugin leaves in an unpacked directory for the workers of the models there. File names
 * carry the JVM's pid, which a worker finds among its ancestors'.
 *
 * <p>With no-archive models one directory may serve two servers, whose pids differ, or two models
 * of one server, which share the files: one key, and the placement of the workers of both. Called
 * by the watcher's thread alone.
 */
final class ModelFiles {
  private static final Map<Path, ModelFiles> OPEN = new HashMap<>();

  private final Path folder;
  private final Path key;
  private final Path placement;
  private final Signer signer = Signer.random();
  private final Map<Model, Map<String, Integer>> gpus = new IdentityHashMap<>();

  private ModelFiles(Path folder) {
    String name = "approxifer-" + ProcessHandle.current().pid();
    this.folder = folder;
    key = folder.resolve(name + ".key");
    placement = folder.resolve(name + ".placement.json");
  }

  /** The files of a model's directory; with the first of its models the key is written. */
  static ModelFiles open(Model model) throws IOException {
    Path folder = model.getModelDir().toPath().toRealPath();
    ModelFiles files = OPEN.get(folder);
    if (files == null) {
      files = new ModelFiles(folder);
      try {
        files.writeKey();
      } catch (IOException e) {
        throw new IOException(
            "the workers' key cannot be written into its directory ("
                + e
                + "); make it writable, or serve a .mar, which TorchServe unpacks",
            e);
      }
      OPEN.put(folder, files);
    }
    files.gpus.put(model, Map.of());
    return files;
  }

  Signer signer() {
    return signer;
  }

  /** Only this user's processes may read the key. */
  private void writeKey() throws IOException {
    Files.deleteIfExists(key);
    Files.createFile(
        key, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
    Files.writeString(key, signer.key(), StandardOpenOption.TRUNCATE_EXISTING);
  }

  /** GPU by worker id, in one move so that no worker reads half of it. */
  void place(Model model, Map<String, Integer> byWorker) throws IOException {
    gpus.put(model, Map.copyOf(byWorker));
    Map<String, Integer> all = new TreeMap<>();
    gpus.values().forEach(all::putAll);
    Path fresh = placement.resolveSibling(placement.getFileName() + ".new");
    Files.writeString(fresh, new Gson().toJson(all));
    Files.move(
        fresh, placement, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
  }

  /** A model is gone: with the last of its directory the files go. */
  void close(Model model) throws IOException {
    gpus.remove(model);
    if (gpus.isEmpty()) {
      OPEN.remove(folder);
      Files.deleteIfExists(key);
      Files.deleteIfExists(placement);
    }
  }
}
