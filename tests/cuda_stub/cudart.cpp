// A CUDA runtime without a GPU: the memory of the "device" is host memory, no kernel runs, and calls are counted by name.
// A call that CUDA forbids while a stream is captured fails here, too. Functions that are not defined here are generated
// by build.py: they are counted and succeed.
//
// Environment: STUB_GPUS is the number of GPUs (default 1), STUB_GPU_ERROR the CUDA error of every query for GPUs,
// STUB_LAUNCH_ERROR the CUDA error of every launch, STUB_CAPTURE_ERROR that of every launch in a capture, STUB_MEMORY the
// bytes of the largest allocation.
//
// The stub "classifies": after a complete graph ran, probabilities that are copied to the host are 1 for the class
// (first byte of the image) mod 10. So a test sees which image an answer belongs to, and an empty graph gives zeros.

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

namespace {

constexpr size_t kImageBytes = 32 * 32 * 3, kClasses = 10;

std::mutex mutex;  // guards counts and allocations
std::map<std::string, long> counts;
std::map<const char*, size_t> device_memory, pinned_memory;

struct Graph {
  long kernels;
};

std::atomic<int> global_captures{0};               // captures that forbid unsafe calls to all threads
thread_local cudaStream_t capturing = nullptr;     // the stream that this thread captures
thread_local cudaStreamCaptureMode capture_mode;
thread_local Graph captured;

thread_local const unsigned char* images = nullptr;  // the last batch that this thread copied to the device
thread_local size_t image_count = 0;
thread_local bool classified = false;  // whether a complete graph ran since then

thread_local cudaError_t last_error = cudaSuccess;

long number(const char* name, long otherwise) {
  const char* value = getenv(name);
  return value ? atol(value) : otherwise;
}

void count(const std::string& name) {
  std::lock_guard<std::mutex> guard(mutex);
  counts[name]++;
}

bool contains(const std::map<const char*, size_t>& memory, const void* address) {
  auto next = memory.upper_bound(static_cast<const char*>(address));
  if (next == memory.begin()) return false;
  --next;
  return address < next->first + next->second;
}

std::string place(const void* address) {
  std::lock_guard<std::mutex> guard(mutex);
  return contains(device_memory, address) ? "device" : contains(pinned_memory, address) ? "pinned" : "host";
}

cudaError_t forbidden_call(const char* name) {
  count(std::string("forbidden during capture: ") + name);
  return cudaErrorStreamCaptureUnsupported;
}

// Counts a call. Fails if a capture forbids it: one of this thread, or one of another thread in global mode.
cudaError_t unsafe_call(const char* name) {
  count(name);
  bool own = capturing && capture_mode != cudaStreamCaptureModeRelaxed;
  return own || global_captures ? forbidden_call(name) : cudaSuccess;
}

cudaError_t allocate(void** address, size_t bytes, const char* name, std::map<const char*, size_t>& memory) {
  if (bytes > static_cast<size_t>(number("STUB_MEMORY", 1L << 40))) return cudaErrorMemoryAllocation;
  if (cudaError_t error = unsafe_call(name)) return error;
  size_t rounded = (bytes + 511) / 512 * 512;
  *address = aligned_alloc(512, rounded ? rounded : 512);
  memset(*address, 0, bytes);
  std::lock_guard<std::mutex> guard(mutex);
  memory[static_cast<char*>(*address)] = bytes;
  return cudaSuccess;
}

cudaError_t release(void* address, const char* name, std::map<const char*, size_t>& memory) {
  if (!address) return cudaSuccess;
  if (cudaError_t error = unsafe_call(name)) return error;
  {
    std::lock_guard<std::mutex> guard(mutex);
    memory.erase(static_cast<char*>(address));
  }
  free(address);
  return cudaSuccess;
}

void copy(void* target, const void* source, size_t bytes) {
  bool to_device = place(target) == "device" && place(source) != "device";
  bool to_host = place(source) == "device" && place(target) != "device";
  memcpy(target, source, bytes);
  if (to_device && bytes % kImageBytes == 0) {
    images = static_cast<const unsigned char*>(target);
    image_count = bytes / kImageBytes;
    classified = false;
  }
  if (to_host && classified && bytes == image_count * kClasses * sizeof(float)) {
    float* rows = static_cast<float*>(target);
    memset(rows, 0, bytes);
    for (size_t i = 0; i < image_count; i++) rows[i * kClasses + images[i * kImageBytes] % kClasses] = 1;
  }
}

cudaError_t launch(cudaStream_t stream) {
  bool is_captured = stream && capturing == stream;
  if (long error = number(is_captured ? "STUB_CAPTURE_ERROR" : "STUB_LAUNCH_ERROR", 0))
    return last_error = static_cast<cudaError_t>(error);
  if (is_captured) captured.kernels++;
  else classified = true;
  count(is_captured ? "captured kernel" : "kernel");
  return cudaSuccess;
}

}  // namespace

extern "C" {

void stub_count(const char* name) { count(name); }
void stub_reset() {
  std::lock_guard<std::mutex> guard(mutex);
  counts.clear();
}
// Writes "count<TAB>name" lines to a file.
void stub_write(const char* file) {
  std::lock_guard<std::mutex> guard(mutex);
  FILE* stream = fopen(file, "w");
  for (auto& item : counts) fprintf(stream, "%ld\t%s\n", item.second, item.first.c_str());
  fclose(stream);
}

// GPUs

cudaError_t cudaGetDeviceCount(int* gpus) {
  *gpus = 0;
  if (long error = number("STUB_GPU_ERROR", 0)) return static_cast<cudaError_t>(error);
  *gpus = static_cast<int>(number("STUB_GPUS", 1));
  return *gpus ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaSetDevice(int gpu) {
  count("cudaSetDevice");
  int gpus;
  if (cudaError_t error = cudaGetDeviceCount(&gpus)) return error;
  return gpu < gpus ? cudaSuccess : cudaErrorInvalidDevice;
}
cudaError_t cudaGetDevice(int* gpu) {
  *gpu = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "Stub");
  p->major = 9;
  p->multiProcessorCount = 132;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsPerMultiProcessor = 2048;
  p->totalGlobalMem = 80UL << 30;
  p->sharedMemPerBlock = 48 << 10;
  p->sharedMemPerBlockOptin = p->sharedMemPerMultiprocessor = 227 << 10;
  p->regsPerBlock = 65536;
  p->l2CacheSize = 50 << 20;
  p->maxGridSize[0] = 2147483647;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor           ? 9
           : attribute == cudaDevAttrMultiProcessorCount            ? 132
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin   ? 227 << 10
                                                                    : 1;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

// Memory

cudaError_t cudaMalloc(void** address, size_t bytes) { return allocate(address, bytes, "cudaMalloc", device_memory); }
cudaError_t cudaFree(void* address) { return release(address, "cudaFree", device_memory); }
cudaError_t cudaMallocFromPoolAsync(void** address, size_t bytes, cudaMemPool_t, cudaStream_t) {
  return cudaMalloc(address, bytes);
}
cudaError_t cudaFreeAsync(void* address, cudaStream_t) { return cudaFree(address); }
cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned) {
  return allocate(address, bytes, "cudaHostAlloc", pinned_memory);
}
cudaError_t cudaMallocHost(void** address, size_t bytes) { return cudaHostAlloc(address, bytes, 0); }
cudaError_t cudaFreeHost(void* address) { return release(address, "cudaFreeHost", pinned_memory); }
cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  *available = 79UL << 30;
  *total = 80UL << 30;
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  memset(attributes, 0, sizeof *attributes);
  std::string where = place(address);
  attributes->type = where == "device"   ? cudaMemoryTypeDevice
                     : where == "pinned" ? cudaMemoryTypeHost
                                         : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* target, const void* source, size_t bytes, cudaMemcpyKind) {
  count("copy " + place(source) + " to " + place(target));
  if (cudaError_t error = unsafe_call("cudaMemcpy")) return error;
  copy(target, source, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  count((stream && capturing == stream ? "captured copy " : "copy ") + place(source) + " to " + place(target));
  copy(target, source, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* address, int value, size_t bytes) {
  memset(address, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t) {
  return cudaMemset(address, value, bytes);
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = reinterpret_cast<cudaMemPool_t>(malloc(8));
  return cudaSuccess;
}

// Streams, events and graphs

cudaError_t cudaDeviceSynchronize() { return unsafe_call("cudaDeviceSynchronize"); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  count("cudaStreamCreate");
  *stream = reinterpret_cast<cudaStream_t>(malloc(8));
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!stream) return unsafe_call("cudaStreamSynchronize");  // the default stream waits for all others
  count("cudaStreamSynchronize");
  return stream == capturing ? forbidden_call("cudaStreamSynchronize") : cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = stream && capturing == stream ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  count("cudaStreamBeginCapture");
  capture_mode = mode;
  capturing = stream;
  captured = {};
  if (mode == cudaStreamCaptureModeGlobal) global_captures++;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  count("cudaStreamEndCapture");
  if (capture_mode == cudaStreamCaptureModeGlobal) global_captures--;
  capturing = nullptr;
  *graph = reinterpret_cast<cudaGraph_t>(new Graph(captured));
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  count("cudaGraphInstantiate");
  *executable = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  count("cudaGraphLaunch");
  if (long error = number("STUB_LAUNCH_ERROR", 0)) return static_cast<cudaError_t>(error);
  classified = reinterpret_cast<Graph*>(executable)->kernels > 0;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(malloc(8));
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;
  return cudaSuccess;
}

// Kernels

cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t stream) { return launch(stream); }
cudaError_t cudaLaunchCooperativeKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t stream) {
  return launch(stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void*, void**) { return launch(config->stream); }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t stream) { return launch(stream); }
cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t stream) {
  return launch(stream);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void* data) {
  function(data);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  memset(attributes, 0, sizeof *attributes);
  attributes->maxThreadsPerBlock = 1024;
  attributes->binaryVersion = attributes->ptxVersion = 90;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
  *blocks = 2;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult*) {
  *function = nullptr;
  return cudaErrorNotSupported;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
static thread_local struct {
  dim3 grid, block;
  size_t shared;
  void* stream;
} configuration;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
  configuration = {grid, block, shared, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  *static_cast<void**>(stream) = configuration.stream;
  return cudaSuccess;
}
void** __cudaRegisterFatBinary(void*) {
  static void* handle[4];
  return handle;
}

cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaGetLastError() {
  cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
const char* cudaGetErrorName(cudaError_t) { return "cudaError"; }
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {  // the messages of the real library
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoKernelImageForDevice: return "no kernel image is available for execution on the device";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return "unknown error";
  }
}

}  // extern "C"
